"""TLS proxy: `python tls_proxy.py HOST PORT` listens on 5000 with /tls/tls.crt and /tls/tls.key."""

import asyncio
import ssl
import sys


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(65536):
        sink.write(data)
        await sink.drain()
    sink.close()


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    upstream, downstream = await asyncio.open_connection(sys.argv[1], int(sys.argv[2]))
    await asyncio.gather(_pump(reader, downstream), _pump(upstream, writer), return_exceptions=True)


async def _main() -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain("/tls/tls.crt", "/tls/tls.key")
    server = await asyncio.start_server(_serve, "0.0.0.0", 5000, ssl=context)  # noqa: S104 - the address of the pod
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main())
