"""A Modbus device with a value of every type, function code and order, on pymodbus's servers.

The registers are made by pymodbus's own converters (or, for what those lack, by `struct`), so that
nothing here is computed the way the daemon computes it. The first line is `ready WHERE TABLE`: WHERE
is a TCP port or nothing, TABLE a list of `{"resource", "keys", "value"}` with the keys of the daemon's
configuration and the value it should read.

    --wire tcp | rtu | ascii | rtu-over-tcp | ascii-over-tcp      --pty PATH for rtu and ascii
"""

import argparse
import asyncio
import json
import logging
import struct
import threading

from pymodbus import FramerType
from pymodbus.client.mixin import ModbusClientMixin
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from peer import say, serve_commands

TYPES = ModbusClientMixin.DATATYPE
NUMBERS = [
    ("u16", TYPES.UINT16, [0, 1, 0x8000, 0xFFFF]),
    ("i16", TYPES.INT16, [-1, -32768, 32767]),
    ("u32", TYPES.UINT32, [1234567890, 0xFFFFFFFF]),
    ("i32", TYPES.INT32, [-1, -2147483648, 1234567890]),
    ("u64", TYPES.UINT64, [1, 0x0102030405060708, 0xFFFFFFFFFFFFFFFF]),
    ("i64", TYPES.INT64, [-1, -(2**63), 0x0102030405060708]),
    ("f32", TYPES.FLOAT32, [123.456, -1.5, 230.1]),
    ("f64", TYPES.FLOAT64, [123.456, -1.5, 1e300]),
]
# Word order as pymodbus calls it, and whether the bytes of each register are swapped as well.
ORDERS = [("ABCD", "big", False), ("CDAB", "little", False), ("BADC", "big", True), ("DCBA", "little", True)]


def swapped(registers):
    """With the two bytes of each register the other way round."""
    return [(r & 0xFF) << 8 | r >> 8 for r in registers]


def registers_of(data):
    """Bytes as registers."""
    return list(struct.unpack(f">{len(data) // 2}H", data))


class Device:
    """What is where, and what the daemon should make of it."""

    def __init__(self):
        self.tables = {"holding": [], "input": []}
        self.table = []

    def put(self, name, registers, value, keys):
        """The same value in both tables of registers."""
        for table, content in self.tables.items():
            keys_here = {"register": f"{table}:{len(content)}", **keys}
            self.table.append({"resource": f"{table}_{name}", "keys": keys_here, "value": value})
            content.extend(registers)

    def fill(self):
        """One of everything."""
        for kind, datatype, values in NUMBERS:
            for n, value in enumerate(values):
                for order, words, swap in ORDERS:
                    registers = ModbusClientMixin.convert_to_registers(value, datatype, word_order=words)
                    registers = swapped(registers) if swap else registers
                    self.put(f"{kind}_{n}_{order}", registers, value, {"type": kind, "order": order})
        for kind, data, value, keys in [
            ("u8", b"\xab\x80", 0x80, {}),
            ("u8", b"\xab\x80", 0xAB, {"byte": "high"}),
            ("i8", b"\x7f\xfe", -2, {"byte": "low"}),
            ("u24", b"\x11\xff\xff\xfe", 0xFFFFFE, {}),
            ("i24", b"\x11\xff\xff\xfe", -2, {}),
            ("u48", struct.pack(">Q", 2**48 - 2)[2:], 2**48 - 2, {}),
            ("i48", struct.pack(">q", -2)[2:], -2, {}),
            ("bcd16", b"\x12\x34", 1234, {}),
            ("bcd32", b"\x00\x12\x34\x56", 123456, {}),
            ("bcd64", b"\x00\x12\x34\x56\x78\x90\x12\x34", 12345678901234, {}),
            ("string", b"SDM120\x00\x00", "SDM120", {"length": 4}),
            ("string", b"DS1M02  ", "SDM120", {"length": 4, "order": "BADC"}),
            ("string", b"\x00S\x00D\x00M", "SDM", {"length": 3, "byte": "low"}),
            ("string", b"S\x00D\x00M\x00", "SDM", {"length": 3, "byte": "high"}),
            ("u16", b"\xab\xcd", 0xBC, {"bits": "4-11"}),
            ("u16", b"\x00\x01", "on", {"enum": {"0": "off", "1": "on"}}),
            ("i16", struct.pack(">h", 2301), 230.1, {"scale": 0.1}),
            ("i16", struct.pack(">h", -205), -2.1, {"scale": 0.01, "decimals": 1}),
            ("u16", b"\x00\x19", 15.0, {"scale": 0.2, "offset": 10.0}),
            ("u16", b"\xff\xff", None, {"sentinels": [0xFFFF]}),
        ]:
            self.put(f"{kind}_{len(self.table)}", registers_of(data), value, {"type": kind, **keys})
        self.put("bit_0", [0x8001], True, {"bit": 0})
        self.put("bit_14", [0x8001], False, {"bit": 14})
        for table in ["coil", "discrete"]:
            for n, bit in enumerate(self.bits()):
                self.table.append({"resource": f"{table}_{n}", "keys": {"register": f"{table}:{n}"}, "value": bit})

    @staticmethod
    def bits():
        """Of both tables of bits."""
        return [n % 3 == 0 for n in range(37)]

    def simulated(self):
        """As pymodbus wants it."""
        bits = [SimData(0, values=self.bits(), datatype=DataType.BITS)]
        words = [[SimData(0, values=t, datatype=DataType.REGISTERS)] for t in self.tables.values()]
        return SimDevice(1, simdata=(bits, bits, words[0], words[1]))


async def run(args):
    """Serves until standard input ends."""
    device = Device()
    device.fill()
    framer = FramerType(args.wire.removesuffix("-over-tcp").replace("tcp", "socket"))
    if args.pty:
        server = ModbusSerialServer(device.simulated(), framer=framer, port=args.pty, baudrate=args.baud)
    else:
        server = ModbusTcpServer(device.simulated(), framer=framer, address=("127.0.0.1", 0))
    await server.serve_forever(background=True)
    where = "0" if args.pty else server.transport.sockets[0].getsockname()[1]
    say(f"ready {where} {json.dumps(device.table)}")
    threading.Thread(target=serve_commands, args=(lambda _: None,), daemon=True).start()
    await asyncio.Event().wait()


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wire", required=True)
    parser.add_argument("--pty")
    parser.add_argument("--baud", type=int, default=19200)
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
