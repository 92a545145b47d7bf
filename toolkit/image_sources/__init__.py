"""Where images come from: a reader for each kind of file or folder, and what is downloaded."""
