"""The application: audio, speech data, the search run, streaming and its report."""
