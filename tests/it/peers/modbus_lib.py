"""The device of `modbus_types.py` behind libmodbus in place of pymodbus's servers.

Same first line, same table. libmodbus has no ASCII: `--wire tcp | rtu`, `--pty PATH` for rtu.
"""

import argparse
import ctypes
import json
import logging
import socket
import threading

from modbus_types import Device
from peer import say, serve_commands

MAX_ADU = 260


class Mapping(ctypes.Structure):
    """`modbus_mapping_t` of libmodbus 3.1."""

    _fields_ = [
        (name, ctypes.c_int)
        for name in (
            "nb_bits",
            "start_bits",
            "nb_input_bits",
            "start_input_bits",
            "nb_input_registers",
            "start_input_registers",
            "nb_registers",
            "start_registers",
        )
    ] + [
        ("tab_bits", ctypes.POINTER(ctypes.c_uint8)),
        ("tab_input_bits", ctypes.POINTER(ctypes.c_uint8)),
        ("tab_input_registers", ctypes.POINTER(ctypes.c_uint16)),
        ("tab_registers", ctypes.POINTER(ctypes.c_uint16)),
    ]


def library():
    """libmodbus with the types of what is used of it."""
    lib = ctypes.CDLL("libmodbus.so.5", use_errno=True)
    for name in ("modbus_new_tcp", "modbus_new_rtu"):
        getattr(lib, name).restype = ctypes.c_void_p
    lib.modbus_new_tcp.argtypes = [ctypes.c_char_p, ctypes.c_int]
    lib.modbus_new_rtu.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.c_char, ctypes.c_int, ctypes.c_int]
    lib.modbus_mapping_new.restype = ctypes.POINTER(Mapping)
    for name in ("modbus_connect", "modbus_set_slave", "modbus_set_socket", "modbus_receive", "modbus_reply"):
        function = getattr(lib, name)
        function.restype = ctypes.c_int
    lib.modbus_connect.argtypes = [ctypes.c_void_p]
    lib.modbus_set_slave.argtypes = [ctypes.c_void_p, ctypes.c_int]
    lib.modbus_set_socket.argtypes = [ctypes.c_void_p, ctypes.c_int]
    lib.modbus_receive.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    lib.modbus_reply.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.POINTER(Mapping)]
    return lib


def mapping(lib, device):
    """The device's tables in libmodbus's."""
    bits, holding, inputs = device.bits(), device.tables["holding"], device.tables["input"]
    made = lib.modbus_mapping_new(len(bits), len(bits), len(holding), len(inputs))
    for n, bit in enumerate(bits):
        made.contents.tab_bits[n] = made.contents.tab_input_bits[n] = int(bit)
    for n, word in enumerate(holding):
        made.contents.tab_registers[n] = word
    for n, word in enumerate(inputs):
        made.contents.tab_input_registers[n] = word
    return made


def serve(lib, context, made):
    """Answers until the connection ends; frames that are none are libmodbus's to skip."""
    query = ctypes.create_string_buffer(MAX_ADU)
    while True:
        length = lib.modbus_receive(context, query)
        if length < 0:
            return
        if length > 0:
            lib.modbus_reply(context, query, length, made)


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wire", required=True, choices=["tcp", "rtu"])
    parser.add_argument("--pty")
    args = parser.parse_args()
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
    lib = library()
    device = Device()
    device.fill()
    made = mapping(lib, device)
    if args.wire == "rtu":
        context = lib.modbus_new_rtu(args.pty.encode(), 19200, b"N", 8, 1)
        lib.modbus_set_slave(context, 1)
        if lib.modbus_connect(context) != 0:
            raise OSError(ctypes.get_errno(), "modbus_connect")
        where, step = 0, lambda: serve(lib, context, made)
    else:
        context = lib.modbus_new_tcp(b"127.0.0.1", 0)
        listener = socket.create_server(("127.0.0.1", 0))
        where = listener.getsockname()[1]

        def step():
            connection, _ = listener.accept()
            with connection:
                lib.modbus_set_socket(context, connection.fileno())
                serve(lib, context, made)

    def forever():
        while True:
            step()

    say(f"ready {where} {json.dumps(device.table)}")
    threading.Thread(target=forever, daemon=True).start()
    serve_commands(lambda _: None)


if __name__ == "__main__":
    main()
