"""The service: durable tasks over the engine, by HTTP."""
