"""Servers that have no command line, or none that takes a socket: ``hostile_small_servers.py <server> <fd>``."""

from __future__ import annotations

import socket
import sys


def main(server: str, listener: socket.socket) -> None:
    """Serve `hostile_app` until killed."""
    if server == "gevent":
        from gevent import monkey

        monkey.patch_all()
    from hostile_app import wsgi

    if server == "gevent":
        from gevent.pywsgi import WSGIServer as Gevent

        listener.setblocking(False)
        Gevent(listener, wsgi).serve_forever()
    elif server == "waitress":
        import waitress

        waitress.serve(wsgi, sockets=[listener])
    elif server == "werkzeug":
        from werkzeug.serving import make_server

        make_server(*listener.getsockname(), wsgi, threaded=True, fd=listener.fileno()).serve_forever()
    else:
        from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

        served = WSGIServer(listener.getsockname(), WSGIRequestHandler, bind_and_activate=False)
        served.socket.close()
        served.socket = listener
        served.server_name, served.server_port = "127.0.0.1", listener.getsockname()[1]
        served.setup_environ()
        served.set_app(wsgi)
        served.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1], socket.socket(fileno=int(sys.argv[2])))
