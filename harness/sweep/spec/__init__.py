"""The sweep file: read, checked, put into typed form."""
