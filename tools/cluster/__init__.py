"""The cluster that `make up` and the tests run on: kind where Docker answers, else an embedded one-node Kubernetes."""
