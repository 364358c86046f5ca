"""OTLP/HTTP trace collector that prints one JSON line per span. The test passes this file to a pod as text."""

import gzip
import json
from http.server import BaseHTTPRequestHandler, HTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

PORT = 4318


class Receiver(BaseHTTPRequestHandler):
    """HTTP handler that answers as a collector does."""

    def do_POST(self) -> None:
        """Receive one export."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = {each.key: each.value.string_value for each in group.resource.attributes}
            for span in (span for scope in group.scope_spans for span in scope.spans):
                line = {"path": self.path, "service": resource["service.name"], "trace": span.trace_id.hex()}
                print(json.dumps(line | {"span": span.name}), flush=True)
        answer = ExportTraceServiceResponse().SerializeToString()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Print only spans."""


if __name__ == "__main__":
    HTTPServer(("", PORT), Receiver).serve_forever()
