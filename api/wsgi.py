"""What the HTTP server runs."""

from api.app import create_app
from shared.bootstrap import build

app = create_app(build())
