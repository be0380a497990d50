#!/usr/bin/env python3
"""Is what shuntd acknowledged there after kill -9, and no half of anything?

storm.py ROUNDS SOCKET LOG COMMAND...: starts the daemon, lets clients change rows as fast as they can, kills it at
some moment, starts it again and looks. The rows belong to tables that need no device.

Transaction n of client c sets external_ids:c of Open_vSwitch to n, and inserts a Queue and a QoS that refers to it, both with n; and
removes those of n - KEPT. So after any number of whole transactions the three agree.
"""
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import time

CLIENTS = [1, 1, 8, 64]  # transactions on the way at one time, of each client
KEPT = 5


class Client:
    def __init__(self, number, window, path, done):
        self.name, self.window = f"c{number}", window
        self.sent = self.acknowledged = done
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.socket.setblocking(False)
        self.input, self.output = "", b""
        self.decoder = json.JSONDecoder()

    def transaction(self, n):
        ids = ["map", [["client", self.name], ["n", str(n)]]]
        old = [["external_ids", "==", ["map", [["client", self.name], ["n", str(n - KEPT)]]]]]
        return [
            "Open_vSwitch",
            {"op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": [
                ["external_ids", "delete", self.name], ["external_ids", "insert", ["map", [[self.name, str(n)]]]]]},
            {"op": "insert", "table": "Queue", "row": {"external_ids": ids}, "uuid-name": "q"},
            {"op": "insert", "table": "QoS", "row": {"external_ids": ids, "queues": ["map", [[n, ["named-uuid", "q"]]]]}},
            {"op": "delete", "table": "QoS", "where": old},
            {"op": "delete", "table": "Queue", "where": old},
        ]

    def write(self):
        while self.sent - self.acknowledged < self.window:
            self.sent += 1
            request = {"method": "transact", "params": self.transaction(self.sent), "id": self.sent}
            self.output += json.dumps(request).encode()
        self.output = self.output[self.socket.send(self.output):]

    def read(self):
        """False when the daemon is gone."""
        data = self.socket.recv(1 << 20)
        self.input += data.decode()
        while self.input:
            try:
                reply, end = self.decoder.raw_decode(self.input)
            except json.JSONDecodeError:
                break
            self.input = self.input[end:]
            errors = [result for result in reply["result"] or [] if result and "error" in result]
            if reply["error"] or errors or reply["id"] != self.acknowledged + 1:
                sys.exit(f"{self.name}: {self.acknowledged + 1}: {reply}")
            self.acknowledged += 1
        return bool(data)


def storm(clients, process, target):
    """Until the daemon is dead; it is killed when so many transactions are acknowledged."""
    start, alive = sum(client.acknowledged for client in clients), set(clients)
    while alive:
        readers, writers, _ = select.select(
            [client.socket for client in alive],
            [client.socket for client in alive if client.output or client.sent - client.acknowledged < client.window],
            [], 30)
        if not readers and not writers:
            sys.exit("no transaction is acknowledged any more")
        for client in list(alive):
            try:
                # What came before the end is read first.
                if client.socket in readers and not client.read():
                    alive.discard(client)
                elif client.socket in writers:
                    client.write()
            except ConnectionResetError:
                alive.discard(client)
            except BrokenPipeError:
                pass
        if process.poll() is None and sum(client.acknowledged for client in clients) - start >= target:
            process.send_signal(signal.SIGKILL)
            process.wait()


def select_all(path):
    client = socket.socket(socket.AF_UNIX)
    client.connect(path)
    columns = {"Open_vSwitch": ["external_ids"], "Queue": ["_uuid", "external_ids"], "QoS": ["external_ids", "queues"]}
    operations = [{"op": "select", "table": table, "where": [], "columns": names} for table, names in columns.items()]
    client.sendall(json.dumps({"method": "transact", "params": ["Open_vSwitch", *operations], "id": 0}).encode())
    data = b""
    while True:
        data += client.recv(1 << 20)
        try:
            return [result["rows"] for result in json.loads(data)["result"]]
        except json.JSONDecodeError:
            continue


def verify(clients, path):
    (root,), queues, qos = select_all(path)
    counters = dict(root["external_ids"][1])
    for client in clients:
        found = int(counters.get(client.name, 0))
        if not client.acknowledged <= found <= client.sent:
            sys.exit(f"{client.name}: {client.acknowledged} acknowledged, {client.sent} sent, but {found} in the database")
        mine = {int(dict(row["external_ids"][1])["n"]): row["_uuid"] for row in queues
                if dict(row["external_ids"][1])["client"] == client.name}
        wanted = set(range(max(1, found - KEPT + 1), found + 1))
        if set(mine) != wanted:
            sys.exit(f"{client.name}: at {found} there are queues {sorted(mine)}")
        refer = {int(dict(row["external_ids"][1])["n"]): row["queues"] for row in qos
                 if dict(row["external_ids"][1])["client"] == client.name}
        if refer != {n: ["map", [[n, uuid]]] for n, uuid in mine.items()}:
            sys.exit(f"{client.name}: at {found}: {mine} but {refer}")
        client.acknowledged = client.sent = found


def start(command, log, path):
    """The daemon, when it serves; and how long that took."""
    begin = time.monotonic()
    process = subprocess.Popen(command, stderr=log, stdin=subprocess.DEVNULL)
    while True:
        try:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(path)
            return process, time.monotonic() - begin
        except OSError:
            if process.poll() is not None or time.monotonic() - begin > 20:
                sys.exit(f"the daemon does not start: {process.poll()}")
            time.sleep(0.002)


def main():
    rounds, path, log, *command = sys.argv[1:]
    seed = int(os.environ.get("SHUNT_SEED", random.randrange(1 << 32)))
    print(f"  seed {seed}")
    chance = random.Random(seed)
    clients, starts, total, unanswered, spent = [], [], 0, 0, 0.0
    with open(log, "a") as log:
        for _ in range(int(rounds)):
            process, took = start(command, log, path)
            starts.append(took)
            if clients:
                verify(clients, path)
            done = {client.name: client.acknowledged for client in clients}
            clients = [Client(n, window, path, done.get(f"c{n}", 0)) for n, window in enumerate(CLIENTS)]
            begin, before = time.monotonic(), sum(client.acknowledged for client in clients)
            storm(clients, process, chance.randrange(1, 600))
            spent += time.monotonic() - begin
            total += sum(client.acknowledged for client in clients) - before
            unanswered += sum(client.sent - client.acknowledged for client in clients)
        process, _ = start(command, log, path)
        verify(clients, path)
        process.terminate()
        process.wait()
    starts.sort()
    print(f"  ✓ {rounds} kills: {total} transactions acknowledged and kept, {unanswered} on the way when it was killed;"
          f" {total / spent:.0f}/s; start {starts[len(starts) // 2] * 1000:.0f} ms")


main()
