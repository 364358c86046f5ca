"""The Open Inference Protocol, version 2, over gRPC: the service inference.GRPCInferenceService on a port of its own.

Each call becomes a request of the application, so that limits, keys, quotas, metrics and traces are those of HTTP. This
package is imported only if the port is set.
"""

import os

# Before the library is imported: a client could cause any number of its own lines, which are not JSON.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
