"""The leak hunt: replay one request many times and find what each one retains."""
