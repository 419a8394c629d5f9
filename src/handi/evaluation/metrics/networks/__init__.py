"""The networks of the paper's metrics, in torch and transformers, keyed as the published files are."""
