"""Every Python client of PostgreSQL reads the store: run with host, port, password, and how many trades there are."""

import asyncio
import sys
import warnings
from datetime import datetime
from decimal import Decimal

HOST, PORT, PASSWORD, TRADES = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
DSN = f"host={HOST} port={PORT} user=tapedeck dbname=tapedeck password={PASSWORD}"
# The first trade, as the fake store makes it.
FIRST = (1, Decimal("62001.0100000000"), Decimal("0.0000000200"), "ETH/USD")
FIRST_SQL = "select seq, price, size, symbol from trades where seq = "


def same(got, wanted, what):
    assert got == wanted, f"{what}: {got!r}, and not {wanted!r}"


def psycopg_2():
    import psycopg2
    import psycopg2.errors

    connection = psycopg2.connect(DSN)
    with connection.cursor() as cursor:
        cursor.execute("select count(*) from trades")
        same(cursor.fetchone(), (TRADES,), "count")
        cursor.execute(FIRST_SQL + "%s", (1,))
        same(cursor.fetchone(), FIRST, "first trade")
        cursor.execute("select ts_recv from trades where seq = 1")
        same(cursor.fetchone()[0], datetime(2026, 7, 19, 12, 0, 0, 10_000), "an instant")
    # A named cursor: rows in portions.
    with connection.cursor(name="some") as cursor:
        cursor.itersize = 700
        cursor.execute("select seq from trades order by seq")
        same([row[0] for row in cursor], list(range(1, TRADES + 1)), "named cursor")
    connection.commit()
    with connection.cursor(name="few") as cursor:
        cursor.execute("select seq, price from trades order by seq")
        same(cursor.fetchmany(2)[0][0], 1, "fetchmany")
        same([column.name for column in cursor.description], ["seq", "price"], "description")
    connection.commit()
    # An error ends the transaction, and no more.
    with connection.cursor() as cursor:
        for sql in ("delete from trades", "create table mine (a int)"):
            try:
                cursor.execute(sql)
                raise AssertionError(f"answered: {sql}")
            except psycopg2.errors.ReadOnlySqlTransaction:
                pass
            try:
                cursor.execute("select 1")
                raise AssertionError("the transaction was not aborted")
            except psycopg2.errors.InFailedSqlTransaction:
                connection.rollback()
        cursor.execute("select 1")
        same(cursor.fetchone(), (1,), "after the rollback")
    connection.close()


def psycopg_3():
    import psycopg
    from psycopg import sql

    with psycopg.connect(DSN) as connection:
        for binary in (False, True):
            with connection.cursor(binary=binary) as cursor:
                cursor.execute("select count(*) from trades")
                same(cursor.fetchone(), (TRADES,), f"count, binary {binary}")
                cursor.execute(FIRST_SQL + "%s", (1,), binary=binary)
                same(cursor.fetchone(), FIRST, f"first trade, binary {binary}")
                cursor.execute("select seq from trades where price = %s order by seq limit 1", (Decimal("62001.01"),))
                same(cursor.fetchone(), (1,), "a decimal parameter")
                cursor.execute(
                    "select count(*) from trades where ts_recv >= %s and symbol = %s",
                    (datetime(2026, 7, 19), "BTC/USD"),
                )
                same(cursor.fetchone(), (TRADES // 4,), "an instant and a text as parameters")
                cursor.execute("select ts_recv, true, 1.5::float8, null::text from trades where seq = 1")
                same(cursor.fetchone(), (datetime(2026, 7, 19, 12, 0, 0, 10_000), True, 1.5, None), "types")
                # Prepared after a few times.
                for seq in range(1, 9):
                    cursor.execute("select seq from trades where seq = %s", (seq,), prepare=True)
                    same(cursor.fetchone(), (seq,), "prepared")
        for binary in (False, True):
            with connection.cursor(name="some", binary=binary) as cursor:
                cursor.itersize = 300
                cursor.execute("select seq, price, symbol, ts_recv from trades where seq > %s order by seq", (0,))
                same(cursor.fetchone()[1:3], (FIRST[1], FIRST[3]), f"first row of a named cursor, binary {binary}")
                same([row[0] for row in cursor], list(range(2, TRADES + 1)), f"named cursor, binary {binary}")
        # Both forms of one cursor, portion by portion; the columns may be described at any time.
        with connection.cursor() as text, connection.cursor(binary=True) as binary:
            text.execute("declare mixed cursor for select seq, price from trades order by seq")
            for form in (text, binary, text, binary):
                form.execute("fetch 2 from mixed")
                same([column.name for column in form.description], ["seq", "price"], "columns")
                same(len(form.fetchall()), 2, "rows of a portion")
            same(text.execute("fetch next from mixed").fetchall()[0][0], 9, "the ninth")
            text.execute("close mixed")
            binary.execute("declare whole binary cursor for select seq, price from trades order by seq")
            same(len(text.execute("fetch all from whole").fetchall()), TRADES, "declared in binary, all at once")
            same(text.execute("fetch 1 from whole").fetchall(), [], "behind the last")
        connection.commit()
        for gone in ("fetch 1 from whole", "close whole", "fetch 1 from nothing"):
            try:
                connection.execute(gone)
                raise AssertionError(f"answered: {gone}")
            except psycopg.errors.InvalidCursorName:
                connection.rollback()
        with connection.cursor(name="held", withhold=True) as cursor:
            cursor.execute("select seq from trades order by seq")
            connection.commit()
            same(cursor.fetchmany(2), [(1,), (2,)], "held over the end of its transaction")
        with connection.cursor() as cursor:
            rows = [row[0] for row in cursor.stream("select seq from trades order by seq limit 100")]
            same(rows, list(range(1, 101)), "stream")
        # A savepoint, as ORMs use it.
        with connection.transaction():
            try:
                with connection.transaction():
                    connection.execute("select nothing from nowhere")
                raise AssertionError("answered")
            except psycopg.errors.UndefinedTable:
                pass
            same(connection.execute("select 1").fetchone(), (1,), "after the savepoint")
        same(connection.info.server_version // 10000, 15, "server version")
    with psycopg.connect(DSN, autocommit=True) as connection:
        same(connection.execute(sql.SQL("select {}").format(7)).fetchone(), (7,), "literal")
        for refused in ("insert into trades (seq) values (1)", "copy trades to stdout", "select * from trades for update"):
            try:
                connection.execute(refused)
                raise AssertionError(f"answered: {refused}")
            except psycopg.errors.ReadOnlySqlTransaction:
                pass


def with_asyncpg():
    import asyncpg

    async def run():
        connection = await asyncpg.connect(host=HOST, port=PORT, user="tapedeck", database="tapedeck", password=PASSWORD)
        same(await connection.fetchval("select count(*) from trades"), TRADES, "count")
        row = await connection.fetchrow(FIRST_SQL + "$1", 1)
        same(tuple(row), FIRST, "first trade")
        statement = await connection.prepare("select seq from trades where symbol = $1 order by seq limit 3")
        same([row["seq"] for row in await statement.fetch("BTC/USD")], [4, 8, 12], "prepared")
        async with connection.transaction():
            seqs = [row["seq"] async for row in connection.cursor("select seq from trades order by seq", prefetch=250)]
            same(seqs, list(range(1, TRADES + 1)), "cursor")
        try:
            await connection.execute("drop table trades")
            raise AssertionError("answered")
        except asyncpg.exceptions.ReadOnlySQLTransactionError:
            pass
        await connection.close()
        pool = await asyncpg.create_pool(
            host=HOST, port=PORT, user="tapedeck", database="tapedeck", password=PASSWORD, min_size=1, max_size=2
        )
        for _ in range(3):
            same(await pool.fetchval("select 1"), 1, "pool")
        await pool.close()

    asyncio.run(run())


def with_pandas():
    import pandas
    import sqlalchemy

    warnings.simplefilter("error")
    for driver in ("psycopg2", "psycopg"):
        url = f"postgresql+{driver}://tapedeck:{PASSWORD}@{HOST}:{PORT}/tapedeck"
        engine = sqlalchemy.create_engine(url, use_native_hstore=False)
        with engine.connect() as connection:
            query = sqlalchemy.text("select seq, price, symbol from trades order by seq")
            # Otherwise pandas makes floats of decimals.
            frame = pandas.read_sql(query, connection, coerce_float=False)
            same(len(frame), TRADES, f"rows with {driver}")
            same(frame.price.iloc[0], FIRST[1], "price")
            same(frame.groupby("symbol").size().to_dict()["BTC/USD"], TRADES // 4, "group")
            query = sqlalchemy.text("select seq from trades where symbol = :symbol order by seq")
            chunks = pandas.read_sql(query, connection, params={"symbol": "BTC/USD"}, chunksize=100)
            same(sum(len(chunk) for chunk in chunks), TRADES // 4, "chunks")
        with engine.connect().execution_options(stream_results=True, yield_per=250) as connection:
            rows = connection.execute(sqlalchemy.text("select seq from trades order by seq"))
            same([row[0] for row in rows], list(range(1, TRADES + 1)), f"streamed with {driver}")
        same("trades" in sqlalchemy.inspect(engine).get_table_names(), True, "table names")
        engine.dispose()


for client in (psycopg_2, psycopg_3, with_asyncpg, with_pandas):
    client()
    print(f"{client.__name__}: ok", flush=True)
