"""What a request costs a real server: uvicorn over loopback, with and without the SDK, in the same seconds.

Two servers run at once and are asked in turn, so that the machine is the same to both. Each tells its own
processor time (getrusage) before and after.
"""

import http.client
import resource
import socket
import statistics
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROUNDS = 80


def serve(kind):
    """Serve the shop on a free port, and say which: the child's part."""
    import uvicorn

    from bench import sdk as bench

    app = bench.shop() if kind == "bare" else bench.instrumented(bench.shop())

    async def told(scope, receive, send):
        if scope.get("path") != "/cpu":
            await app(scope, receive, send)
            return
        used = resource.getrusage(resource.RUSAGE_SELF)
        body = repr(used.ru_utime + used.ru_stime).encode()
        length = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": length})
        await send({"type": "http.response.body", "body": body})

    listener = socket.socket(proto=socket.IPPROTO_TCP)  # else asyncio leaves out TCP_NODELAY
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    print(listener.getsockname()[1], flush=True)
    config = uvicorn.Config(told, log_level="critical", access_log=False, timeout_keep_alive=600)
    uvicorn.Server(config).run(sockets=[listener])


@contextmanager
def serving(kind):
    """Run the server *kind*; give a connection to it."""
    child = subprocess.Popen([sys.executable, __file__, kind], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        yield http.client.HTTPConnection("127.0.0.1", int(child.stdout.readline()))
    finally:
        child.terminate()
        child.wait()
        child.stdout.close()


def get(connection, path):
    connection.request("GET", path)
    return connection.getresponse().read()


def run(bars, requests):
    """Print the processor time of a request, bare and instrumented."""
    each, taken = max(requests // ROUNDS, 20), {"bare": [], "countersign": []}
    with ExitStack() as stack:
        servers = {kind: stack.enter_context(serving(kind)) for kind in taken}
        for connection in servers.values():
            stack.callback(connection.close)
            for _ in range(200):
                get(connection, "/orders/7")
        for _ in range(ROUNDS):
            for kind, connection in servers.items():
                begun = float(get(connection, "/cpu"))
                for _ in range(each):
                    get(connection, "/orders/7")
                taken[kind].append((float(get(connection, "/cpu")) - begun) * 1e6 / each)
    over = statistics.median(b - a for a, b in zip(*taken.values(), strict=True))
    bare = statistics.median(taken["bare"])
    print(f"\nuvicorn over loopback, processor time of the server: bare {bare:.0f} µs, ours +{over:.1f} µs")
    bars.most("uvicorn: processor time of a request", over, 10.0, "µs")


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT)]
    serve(sys.argv[1])
