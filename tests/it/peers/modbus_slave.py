"""A Modbus TCP slave on pymodbus's server, which writes down what it serves before it serves it.

Each unit counts its reads: registers 0 and 1 hold that count (u32, high word first), every other
register is derived from unit, count and address. So whoever reads the log can tell which reads
arrived somewhere, once, and in which order.

Lines of the log: `{"opened": C}`, `{"closed": C}` for connection C, and for a read
`{"connection", "unit", "function", "address", "count", "seq", "values"}`.
Commands: `{"do": "stop"}` (no more reads, connections closed), `{"do": "start"}`,
`{"unit": N, "mode": "serve" | "silent" | "busy" | "slow" | "refuse" | "stranger", "ms": 500, "code": 4}`
(unit 0: all of them; `refuse`: with this exception; `stranger`: answers as another unit).
"""

import argparse
import asyncio
import contextvars
import functools
import logging
import threading

from pymodbus.constants import ExcCodes
from pymodbus.exceptions import ModbusIOException
from pymodbus.pdu import ExceptionResponse
from pymodbus.server import ModbusTcpServer
from pymodbus.server.requesthandler import ServerRequestHandler
from pymodbus.simulator import DataType, SimData, SimDevice
from pymodbus.transaction import TransactionManager

from peer import Log, say, serve_commands

MODES = ("serve", "silent", "busy", "slow", "refuse", "stranger")
CONNECTION = contextvars.ContextVar("connection")


class Silent(Exception):
    """This request gets no answer."""


def register(unit, seq, address):
    """What a register holds at the `seq`-th read of its unit."""
    if address == 0:
        return seq >> 16
    if address == 1:
        return seq & 0xFFFF
    return (seq * 31 + unit * 7 + address * 1009) & 0xFFFF


class Site:
    """The units and what they were told to do."""

    def __init__(self, units, registers, log):
        self.log = log
        self.registers = registers
        self.serving = True
        self.seq = {unit: 0 for unit in range(1, units + 1)}
        self.mode = {unit: ("serve", 0) for unit in self.seq}

    def devices(self):
        """The units as pymodbus wants them."""
        block = [SimData(0, count=self.registers, values=0, datatype=DataType.REGISTERS)]
        return [SimDevice(u, simdata=block, action=functools.partial(self.read, u)) for u in self.seq]

    async def read(self, unit, function, _start, address, count, current, written):
        """Called by pymodbus before it copies `current` into the answer."""
        mode, number = self.mode[unit]
        if mode == "slow":
            await asyncio.sleep(number / 1000)
        connection = CONNECTION.get()
        if mode == "silent" or not self.serving or connection.transport is None:
            raise Silent
        if mode == "busy":
            return ExcCodes.DEVICE_BUSY
        if mode == "refuse":
            return ExcCodes(number)
        if written is not None:
            return ExcCodes.ILLEGAL_FUNCTION
        self.seq[unit] += 1
        seq = self.seq[unit]
        current[:] = [register(unit, seq, a) for a in range(self.registers)]
        self.log.write(
            connection=connection.number,
            unit=unit,
            function=function,
            address=address,
            count=count,
            seq=seq,
            values=current[address : address + count],
        )
        return None


class Connection(ServerRequestHandler):
    """One master's connection: requests are answered in order, each with its own header.

    The base class keeps only the latest request: a master that pipelines, or asks again after a
    time-out, would get one request's answer under another's header.
    """

    opened = 0

    def __init__(self, server):
        super().__init__(server, None, None, None)
        Connection.opened += 1
        self.number = Connection.opened
        self.waiting = asyncio.Queue()
        self.answering = None

    def callback_connected(self):
        super().callback_connected()
        self.server.site.log.write(opened=self.number)
        self.server.connections.add(self)
        self.answering = asyncio.ensure_future(self.answer_all())

    def callback_disconnected(self, exc):
        super().callback_disconnected(exc)
        self.server.connections.discard(self)
        if self.answering is not None:
            self.answering.cancel()
        self.server.site.log.write(closed=self.number)

    def callback_data(self, data, addr=None):
        used = 0
        while used < len(data):
            try:
                taken = TransactionManager.callback_data(self, data[used:], addr)
            except ModbusIOException as error:
                self.server.site.log.write(garbage=data[used:].hex(), why=str(error))
                self.close()
                return len(data)
            if not taken:
                break
            used += taken
            if self.last_pdu is not None:
                self.waiting.put_nowait(self.last_pdu)
        return used

    async def answer_all(self):
        """Serves what came in, one after the other."""
        CONNECTION.set(self)
        while True:
            pdu = await self.waiting.get()
            try:
                response = await pdu.datastore_update(self.server.context, pdu.dev_id)
            except Silent:
                continue
            except KeyError:  # no such unit
                response = ExceptionResponse(pdu.function_code, ExcCodes.GATEWAY_NO_RESPONSE)
            response.transaction_id = pdu.transaction_id
            stranger = self.server.site.mode.get(pdu.dev_id, ("serve", 0))[0] == "stranger"
            response.dev_id = pdu.dev_id + 1 if stranger else pdu.dev_id
            self.server_send(response, None)


class Server(ModbusTcpServer):
    """pymodbus's server with the connections above."""

    def __init__(self, site, port):
        super().__init__(site.devices(), address=("127.0.0.1", port))
        self.site = site
        self.connections = set()

    def callback_new_connection(self):
        return Connection(self)


async def listen(site, port):
    """A server that listens."""
    server = Server(site, port)
    await server.serve_forever(background=True)
    return server


async def run(args):
    """Serves until standard input ends."""
    site = Site(args.units, args.registers, Log(args.log))
    server = await listen(site, args.port)
    port = server.transport.sockets[0].getsockname()[1]
    loop = asyncio.get_running_loop()

    async def obey(command):
        nonlocal server
        match command:
            case {"do": "stop"}:
                site.serving = False
                for connection in list(server.connections):
                    connection.transport.close()  # what was answered still leaves
                await server.shutdown()
            case {"do": "start"}:
                site.serving = True
                server = await listen(site, port)
            case {"unit": unit, "mode": mode, **rest} if mode in MODES:
                for each in [unit] if unit else list(site.mode):
                    site.mode[each] = (mode, rest.get("ms") or rest.get("code", 0))
            case _:
                raise ValueError(f"no such command: {command}")

    def act(command):
        asyncio.run_coroutine_threadsafe(obey(command), loop).result(30)

    say(f"ready {port}")
    threading.Thread(target=serve_commands, args=(act,), daemon=True).start()
    await asyncio.Event().wait()


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--units", type=int, default=10)
    parser.add_argument("--registers", type=int, default=10)
    parser.add_argument("--log", required=True)
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
