"""The web page behind `unirs app`. Needs `pip install 'unirs[app]'`."""
