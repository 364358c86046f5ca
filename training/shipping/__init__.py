"""The inference log: from the segments of a pod to Parquet files, and deletions from them."""
