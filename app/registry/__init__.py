"""Access to the served model: its sources, the download, copies between pods, and loading."""
