"""Base classes for publishers and subscribers of one's own.

Differences from the originals: sockets do not linger, so that an end is an end; signal handlers are
installed only where Python allows it (the main thread) and put back by ``cleanup``; ``cleanup`` may be
called twice; a context that was handed in stays open.
"""

import logging
import signal
import sys
import threading
from typing import Any, Callable, Dict, List, Optional, Tuple

import zmq

from .ports import PortConfig
from .serialization import ZMQMessageHandler

logger = logging.getLogger(__name__)

#: How long what was published may take to leave when the publisher ends.
LINGER_MS = 1000
#: How often a waiting subscriber looks whether it was stopped.
LOOK_MS = 200


class BaseZMQService:
    def __init__(self, port_config: PortConfig, context: Optional[zmq.Context] = None) -> None:
        self.port_config = port_config
        self.context = context or zmq.Context()
        self.socket: Optional[zmq.Socket] = None
        self.running = False
        self._owns_context = context is None
        self._handlers: Dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._signal_handler)

    def _signal_handler(self, number: int, frame: Any) -> None:
        logger.info("signal %s: ending", number)
        self.running = False
        self.cleanup()
        sys.exit(0)

    def stop(self) -> None:
        self.running = False

    def cleanup(self) -> None:
        self.running = False
        if threading.current_thread() is threading.main_thread():
            for number, before in self._handlers.items():
                # Somebody else's handler, installed after ours, stays.
                if signal.getsignal(number) == self._signal_handler:
                    signal.signal(number, before)
            self._handlers = {}
        if self.socket is not None and not self.socket.closed:
            self.socket.close()
        if self._owns_context and not self.context.closed:
            self.context.term()

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: Any) -> None:
        self.cleanup()


class BasePublisher(BaseZMQService):
    """A PUB socket bound to the port of its config.

    Bound to this machine only, unless ``host`` says otherwise (the originals bound to every address).
    """

    def __init__(
        self, port_config: PortConfig, context: Optional[zmq.Context] = None, host: str = "127.0.0.1"
    ) -> None:
        super().__init__(port_config, context)
        socket = self.context.socket(zmq.PUB)
        socket.setsockopt(zmq.LINGER, LINGER_MS)
        socket.setsockopt(zmq.SNDHWM, 100000)
        self.socket = socket
        try:
            socket.bind("tcp://{}:{}".format(host, port_config.port))
        except zmq.ZMQError as error:
            self.cleanup()
            raise zmq.ZMQError(
                error.errno, "port {} ({}): {}".format(port_config.port, port_config.service_name, error)
            ) from None

    def publish_msgpack(self, topic: str, data: Any) -> None:
        self._send(ZMQMessageHandler.serialize_multipart(topic, data))

    def publish_json(self, topic: str, data: Any) -> None:
        """What JSON can hold; on the wire it is MessagePack."""
        self._send(ZMQMessageHandler.serialize_multipart(topic, data))

    def publish_raw(self, topic: str, data: bytes) -> None:
        self._send([topic.encode("utf-8") if isinstance(topic, str) else topic, data])

    def _send(self, frames: List[bytes]) -> None:
        if self.socket is None or self.socket.closed:
            raise RuntimeError("the publisher was closed")
        self.socket.send_multipart(frames)


class BaseSubscriber(BaseZMQService):
    """A SUB socket connected to the port of its config, on the topic of its config."""

    def __init__(
        self, port_config: PortConfig, host: str = "localhost", context: Optional[zmq.Context] = None
    ) -> None:
        super().__init__(port_config, context)
        self.host = host
        self.message_handler: Optional[Callable[[str, Any], None]] = None
        #: Messages that could not be decoded, or whose handler failed.
        self.errors = 0
        socket = self.context.socket(zmq.SUB)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVHWM, 100000)
        socket.setsockopt(zmq.SUBSCRIBE, (port_config.topic_filter or "").encode("utf-8"))
        socket.connect("tcp://{}:{}".format("127.0.0.1" if host == "localhost" else host, port_config.port))
        self.socket = socket

    def set_message_handler(self, handler: Callable[[str, Any], None]) -> None:
        self.message_handler = handler

    def recv_raw(self) -> List[bytes]:
        if self.socket is None or self.socket.closed:
            raise RuntimeError("the subscriber was closed")
        return self.socket.recv_multipart()

    def recv_msgpack(self) -> Tuple[str, Any]:
        """Waits for a message of two frames."""
        return ZMQMessageHandler.deserialize_multipart(self.recv_raw())

    def run(self, timeout: Optional[int] = None) -> None:
        """Hands each message to the handler until :meth:`stop`; one that fails is logged and counted."""
        self.running = True
        try:
            while self.running and self.socket is not None and not self.socket.closed:
                if self.socket.poll(LOOK_MS if timeout is None else timeout) == 0:
                    continue
                try:
                    topic, data = self.recv_msgpack()
                    if self.message_handler is None:
                        logger.warning("no handler is set: message on %s not used", topic)
                    else:
                        self.message_handler(topic, data)
                except zmq.ZMQError:
                    raise
                except Exception:
                    self.errors += 1
                    logger.exception("message not processed")
        except KeyboardInterrupt:
            pass
        finally:
            self.cleanup()
