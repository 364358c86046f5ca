"""The promotion gate, which decides whether a candidate replaces the champion."""
