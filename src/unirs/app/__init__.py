"""The web page behind `unirs app`. Needs the extra `app`."""
