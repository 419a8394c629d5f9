"""Where clips come from: published data sets, lists, folders, the synthetic world; each read as `Clip`s."""
