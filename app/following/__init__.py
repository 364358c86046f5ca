"""Following an alias: from the version that it names to the one that is served, or compared as a challenger."""
