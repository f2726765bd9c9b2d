"""The predecessors' wire forms: topic and MessagePack, in two frames or in one with a space between.

Dates and decimals become plain text, as theirs did.
"""

import json
from typing import Any, List, Tuple, Union

import msgpack


class MessagePackCodec:
    @staticmethod
    def pack(data: Any) -> bytes:
        return msgpack.packb(data, use_bin_type=True, default=str)

    @staticmethod
    def unpack(data: bytes) -> Any:
        return msgpack.unpackb(data, raw=False)

    @staticmethod
    def pack_json(data: Union[dict, list, str]) -> bytes:
        """Packs what is given as JSON text, or as what such text becomes."""
        return MessagePackCodec.pack(json.loads(data) if isinstance(data, str) else data)


class ZMQMessageHandler:
    @staticmethod
    def serialize_message(topic: Union[str, bytes], data: Any) -> bytes:
        """One frame."""
        return _topic(topic) + b" " + MessagePackCodec.pack(data)

    @staticmethod
    def serialize_multipart(topic: Union[str, bytes], data: Any) -> List[bytes]:
        """Two frames."""
        return [_topic(topic), MessagePackCodec.pack(data)]

    @staticmethod
    def deserialize_message(message: Union[bytes, str]) -> Tuple[str, Any]:
        whole = message.encode("utf-8") if isinstance(message, str) else message
        topic, space, payload = whole.partition(b" ")
        if not space:
            raise ValueError("no space between topic and payload: {!r}".format(whole[:64]))
        return topic.decode("utf-8"), MessagePackCodec.unpack(payload)

    @staticmethod
    def deserialize_multipart(message_parts: List[bytes]) -> Tuple[str, Any]:
        if len(message_parts) != 2:
            raise ValueError("a message has 2 frames, this has {}".format(len(message_parts)))
        return message_parts[0].decode("utf-8"), MessagePackCodec.unpack(message_parts[1])


def _topic(topic: Union[str, bytes]) -> bytes:
    return topic.encode("utf-8") if isinstance(topic, str) else topic


def convert_json_to_msgpack(json_data: Union[str, dict, list]) -> bytes:
    return MessagePackCodec.pack_json(json_data)


def convert_msgpack_to_json(msgpack_data: bytes) -> Any:
    return MessagePackCodec.unpack(msgpack_data)
