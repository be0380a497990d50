#!/usr/bin/python3
# What does Open vSwitch's own Python library (its IDL) know of our database? Debian: python3-openvswitch.
#
# follow.py REMOTE SCHEMA-FILE TABLE COLUMN: follows all tables; whenever a new value appears in the column, prints one line
# [VALUE, {TABLE: {UUID: {COLUMN: VALUE on the wire}}}].
import json
import sys

import ovs.db.idl
import ovs.poller

remote, schema, marked, column = sys.argv[1:]
helper = ovs.db.idl.SchemaHelper(location=schema)
helper.register_all()
idl = ovs.db.idl.Idl(remote, helper, probe_interval=0)
seen = {"s"}


def contents():
    return {
        name: {
            str(uuid): {name: row._data[name].to_json() for name in table.columns}
            for uuid, row in table.rows.items()
        }
        for name, table in idl.tables.items()
    }


while True:
    if not idl.run():
        poller = ovs.poller.Poller()
        idl.wait(poller)
        poller.block()
    marks = {mark for row in idl.tables[marked].rows.values() for mark in getattr(row, column)}
    for mark in sorted(marks - seen):
        seen.add(mark)
        print(json.dumps([mark, contents()]), flush=True)
