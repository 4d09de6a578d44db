"""What schemathesis doesn't know by itself: how transcripts are sent."""

import json

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def lines(ctx, value):
    """Transcripts, a line each: generated ones are words, so each is a line that isn't a transcript."""
    return value if isinstance(value, bytes) else json.dumps(value).encode()
