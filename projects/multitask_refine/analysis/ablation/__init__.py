"""The experiment on learned offsets: its protocol and its tables."""
