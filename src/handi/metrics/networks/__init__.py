"""The networks of the paper's metrics, in plain torch and transformers, with the keys of the published files."""
