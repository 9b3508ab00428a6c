"""Tables, arrays and images from people's own files."""
