"""The parts of the page, one a file: `section(collection, site)`, which is None where there is nothing to say."""
