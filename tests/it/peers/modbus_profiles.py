"""A Modbus TCP device whose registers come from the tables of other people's packages.

`sdm72` to `sdm630` are the tables of sdm_modbus, every input register with a value of its own; `sunspec`
is a chain of models that pysunspec2 encodes. The first line is `ready PORT TABLES`: a table is a list of
`{"register" or "resource", "unit", "value"}`. Registers that no table names are refused. The command
`{"do": "move"}` is another firmware: the next table, whose chain begins at another base.

`read HOST PORT` is the other direction: pymodbus's client reads a device, and `ready TABLE` has every
input register that `--registers` names.
"""

import argparse
import asyncio
import json
import logging
import struct
import sys
import threading
from decimal import Decimal
from unittest.mock import MagicMock

import pymodbus.client
import pymodbus.constants
import sunspec2.device
from pymodbus.client import ModbusTcpClient
from pymodbus.client.mixin import ModbusClientMixin
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from peer import say, serve_commands

BASES = [40000, 50000, 0]
# The models of each chain; 160 is one that the daemon does not know.
CHAINS = [[1, 103, 160, 203], [1, 101, 201], [1, 102, 204]]
GROUPS = {1: "common", 101: "inverter", 102: "inverter", 103: "inverter"} | dict.fromkeys(range(201, 205), "meter")
LIMITS = {"int16": 0x7FFF, "uint16": 0xFFFE, "acc32": 0xFFFFFFFF, "bitfield32": 0xFFFFFFFE, "enum16": 0xFFFE}


def sdm_registers(model):
    """The input registers of sdm_modbus's table of a model. It is older than this pymodbus, so what it
    imports for its own client is replaced."""
    pymodbus.constants.Endian = MagicMock()
    sys.modules["pymodbus.payload"] = sys.modules["pymodbus.register_read_message"] = MagicMock()
    from sdm_modbus import meter, sdm

    table = getattr(sdm, model.upper())
    meter.Meter.__init__ = lambda self, **_: None
    rows = table().registers.values()
    return sorted((row[0], row[6]) for row in rows if row[2] is meter.registerType.INPUT)


def sdm(model):
    """Blocks of registers, and what should be read from them."""
    words, table = {}, []
    for n, (address, unit) in enumerate(sdm_registers(model)):
        value = 100.0 + 7.25 * n * (-1 if n % 5 == 4 else 1)
        pair = ModbusClientMixin.convert_to_registers(value, ModbusClientMixin.DATATYPE.FLOAT32)
        words.update(zip((address, address + 1), pair))
        table.append({"register": f"input:{address}", "unit": unit, "value": value})
    return words, table


def sunspec(turn):
    """A chain, and what should be read from it; each turn has another one."""
    words, table = {}, []
    at = BASES[turn]
    data = b"SunS"
    for number in CHAINS[turn]:
        model = sunspec2.device.Model(number)
        fill(model, turn)
        data += model.get_mb()
        for point in model.points.values():
            kind = point.pdef["type"]
            if number in GROUPS and kind not in ("sunssf", "pad") and point.pdef["name"] not in ("ID", "L"):
                # Model 201 has a name of its own for what the other meters call so.
                name = point.pdef["name"].replace("PPVph", "PhVph") if number == 201 else point.pdef["name"]
                table.append({"resource": f"{GROUPS[number]}.{name}", "value": expected(model, point)})
    data += b"\xff\xff\x00\x00"
    for n, word in enumerate(struct.unpack(f">{len(data) // 2}H", data)):
        words[at + n] = word
    return words, table


def fill(model, turn):
    """Values for all points but every sixth; scale factors first, since the others are checked with them."""
    points = list(model.points.values())
    for n, point in enumerate(points):
        if point.pdef["type"] == "sunssf":
            point.value = (n + turn) % 8 - 4
    for n, point in enumerate(points):
        kind = point.pdef["type"]
        if kind == "string":
            point.value = None if n % 6 == 4 else f"{point.pdef['name']} {turn}"
        elif kind in LIMITS and point.pdef["name"] not in ("ID", "L"):
            sign = -1 if kind == "int16" and n % 4 == 1 else 1
            point.value = None if n % 6 == 5 else sign * ((n + 1) * 7919 * (turn + 1) * 65521**n % LIMITS[kind] or 1)


def expected(model, point):
    """What a point says; pysunspec2 has to agree."""
    if point.value is None or point.pdef["type"] == "string":
        return point.value
    sf = point.pdef.get("sf")
    if sf is None:
        return point.value
    value = float(Decimal(point.value).scaleb(model.points[sf].value))
    assert abs(value - point.cvalue) <= 1e-9 * abs(value), (point.pdef["name"], value, point.cvalue)
    return value


def device(words, table):
    """As pymodbus wants it: a block for each run of addresses."""
    blocks, run = [], []
    for address in sorted(words):
        if run and address != run[-1] + 1:
            blocks.append(run)
            run = []
        run.append(address)
    blocks.append(run)
    content = [SimData(b[0], values=[words[a] for a in b], datatype=DataType.REGISTERS) for b in blocks]
    none = [SimData(0, values=[False], datatype=DataType.BITS)]
    nothing = [SimData(65535, values=[0], datatype=DataType.REGISTERS)]
    tables = (nothing, content) if table == "input" else (content, nothing)
    return SimDevice(1, simdata=(none, none, *tables))


async def listen(simulated, port):
    """A server that listens."""
    server = ModbusTcpServer(simulated, address=("127.0.0.1", port))
    await server.serve_forever(background=True)
    return server


async def serve(model):
    """Serves until standard input ends."""
    turn = 0
    turns = [sunspec(n) for n in range(len(BASES))] if model == "sunspec" else [sdm(model)]
    kind = "holding" if model == "sunspec" else "input"
    server = await listen(device(turns[turn][0], kind), 0)
    port = server.transport.sockets[0].getsockname()[1]
    loop = asyncio.get_running_loop()

    async def move():
        nonlocal turn, server
        turn += 1
        await server.shutdown()
        server = await listen(device(turns[turn][0], kind), port)

    def act(command):
        assert command == {"do": "move"}
        asyncio.run_coroutine_threadsafe(move(), loop).result(30)

    say(f"ready {port} {json.dumps([table for _, table in turns])}")
    threading.Thread(target=serve_commands, args=(act,), daemon=True).start()
    await asyncio.Event().wait()


def read(port, unit, registers):
    """What pymodbus's client reads at each register, as two words."""
    client = ModbusTcpClient("127.0.0.1", port=port)
    assert client.connect()
    table = {}
    for address in registers:
        answer = client.read_input_registers(address, count=2, device_id=unit)
        assert not answer.isError(), answer
        table[address] = client.convert_from_registers(answer.registers, client.DATATYPE.FLOAT32)
    refused = client.read_input_registers(0xFFF0, count=2, device_id=unit)
    assert refused.exception_code == 2, refused
    assert client.write_register(0, 1, device_id=unit).exception_code == 1
    who = client.read_device_information(read_code=2, device_id=unit).information
    say(f"ready {json.dumps({'values': table, 'who': {n: text.decode() for n, text in who.items()}})}")
    serve_commands(lambda _: None)


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what")
    parser.add_argument("--port", type=int)
    parser.add_argument("--unit", type=int, default=1)
    parser.add_argument("--registers")
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
    args = parser.parse_args()
    if args.what == "read":
        read(args.port, args.unit, json.loads(args.registers))
    else:
        asyncio.run(serve(args.what))


if __name__ == "__main__":
    main()
