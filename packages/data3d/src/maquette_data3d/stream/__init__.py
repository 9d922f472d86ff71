"""From folders of shards to an endless stream of batches: order, mixture, buckets, curriculum, reading ahead."""
