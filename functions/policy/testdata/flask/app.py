"""The policy check as the older Staffeln has it (staffeln/api/app.py): whether a backup
is automated is looked up in a table. Less of it, so that it is as fast as it can be:
plain SQL on one connection a process, no SQLAlchemy, no oslo.

Run with a number, it makes the table, with that many backups; uwsgi runs it otherwise.
"""

import os
import sqlite3
import sys

from flask import Flask, Response, request

FILE = os.environ['BACKUPS']

if __name__ == '__main__':
    with sqlite3.connect(FILE) as db:
        db.execute('CREATE TABLE backup_data (id INTEGER PRIMARY KEY AUTOINCREMENT, backup_id VARCHAR(100))')
        db.execute('CREATE INDEX by_backup_id ON backup_data (backup_id)')
        db.executemany('INSERT INTO backup_data (backup_id) VALUES (?)',
                       ((f'00000000-0000-4000-8000-{n:012x}',) for n in range(int(sys.argv[1]))))
    sys.exit()

app = Flask(__name__)
db = sqlite3.connect(FILE, check_same_thread=False)


@app.route('/v1/backup', methods=['POST'])
def backup():
    if 'backup_id' not in request.args:
        return Response('Error: backup_id is missing.', status=403, mimetype='text/plain')
    found = db.execute('SELECT 1 FROM backup_data WHERE backup_id = ?', (request.args['backup_id'],)).fetchone()
    if found is None:
        return Response('True', status=200, mimetype='text/plain')
    return Response('protected', status=401, mimetype='text/plain')
