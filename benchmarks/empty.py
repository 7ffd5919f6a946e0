"""The baseline of the accept benchmark: a Flask application with one empty route."""

from flask import Flask

app = Flask(__name__)


@app.post("/empty")
def empty() -> tuple[str, int]:
    """Answer at once."""
    return "", 202
