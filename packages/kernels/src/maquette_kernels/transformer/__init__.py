"""Operations of transformer blocks: norms fused with what stands beside them, attention over ragged batches, fp8."""
