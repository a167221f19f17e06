"""Some devices on one wire, as one finds them on a site, on pymodbus's servers.

Unit 5 is a meter like Eastron's (f32 in input registers: volts at 0, hertz at 70), 17 an inverter
that speaks SunSpec (from holding register 40000), 99 a device with two holding registers at 500. All
others are silent. All of them tell who they are by function 43/14. The first line is `ready PORT`.

    --wire tcp | rtu | ascii | rtu-over-tcp      --pty PATH for rtu and ascii
Commands: `{"unit": N, "function": F, "address": A, "registers": [...]}`: what is there from now on
"""

import argparse
import asyncio
import logging
import struct
import threading

from pymodbus import FramerType, ModbusDeviceIdentification
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.server.requesthandler import ServerRequestHandler
from pymodbus.simulator import DataType, SimData, SimDevice

from peer import say, serve_commands


UNITS = (5, 17, 99)


def single(value):
    """A float as two registers, high word first."""
    return list(struct.unpack(">HH", struct.pack(">f", value)))


def text(words, length):
    """A text as so many registers."""
    data = words.encode().ljust(2 * length, b"\0")
    return list(struct.unpack(f">{length}H", data))


def block(address, registers):
    """Neighbouring registers."""
    return SimData(address, values=registers, datatype=DataType.REGISTERS)


def device(unit, holding, inputs):
    """A device with two tables of registers, and a bit for pymodbus."""
    bits = [SimData(0, values=[True], datatype=DataType.BITS)]
    return SimDevice(unit, simdata=(bits, bits, holding, inputs))


def devices():
    """Everything on the wire."""
    meter = single(231.4) + [0] * 68 + single(50.02) + [0] * 8
    common = (
        text("SunS", 2) + [1, 66] + text("Tidewater", 16) + text("TW-5000", 16) + text("", 8)
        + text("1.2.3", 8) + text("SN-0815", 16) + [17, 0xFFFF]
    )
    return [
        device(5, [block(0, [2314, 7, 0xFFFB, 1])], [block(0, meter)]),
        device(17, [block(40000, common)], [block(30, [1])]),
        device(99, [block(500, [1, 2])], [block(500, [1])]),
    ]


class Connection(ServerRequestHandler):
    """Says nothing in the name of units that are not there."""

    async def handle_request(self):
        if self.last_pdu and self.last_pdu.dev_id in UNITS:
            await super().handle_request()


def connection(server):
    """What answers on it."""
    return Connection(server, server.trace_packet, server.trace_pdu, server.trace_connect)


class TcpServer(ModbusTcpServer):
    """Silent for units that are not there."""

    callback_new_connection = connection


class SerialServer(ModbusSerialServer):
    """The same on a line."""

    callback_new_connection = connection


async def run(args):
    """Serves until standard input ends."""
    framer = FramerType(args.wire.removesuffix("-over-tcp").replace("tcp", "socket"))
    names = {0x00: "Tidewater", 0x01: "TW", 0x02: "2.1", 0x04: "Line of devices"}
    identity = ModbusDeviceIdentification(info=names)
    options = {"framer": framer, "identity": identity}
    if args.pty:
        server = SerialServer(devices(), port=args.pty, baudrate=args.baud, **options)
    else:
        server = TcpServer(devices(), address=("127.0.0.1", 0), **options)
    await server.serve_forever(background=True)
    where = "0" if args.pty else server.transport.sockets[0].getsockname()[1]
    loop = asyncio.get_running_loop()

    def act(command):
        change = server.async_setValues(
            command["unit"], command["function"], command["address"], command["registers"]
        )
        asyncio.run_coroutine_threadsafe(change, loop).result(30)

    say(f"ready {where}")
    threading.Thread(target=serve_commands, args=(act,), daemon=True).start()
    await asyncio.Event().wait()


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wire", required=True)
    parser.add_argument("--pty")
    parser.add_argument("--baud", type=int, default=9600)
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
