"""What each rival serves, as its documentation shows it: run in the rival's own environment, never imported here."""
