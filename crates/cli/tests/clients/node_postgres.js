// node `postgres` (postgres.js): tagged queries, fetched types, helpers, cursors, transactions, COPY.
// usage: NODE_PATH=… node node_postgres.js URL
'use strict'
const assert = require('node:assert')
const fs = require('node:fs')
const path = require('node:path')
const { pipeline } = require('node:stream/promises')
const { Readable } = require('node:stream')
const postgres = require('postgres')

const NAME = 'c_node_postgres'

async function main() {
  const sql = postgres(process.argv[2], { max: 3, onnotice: () => {} })
  const table = sql(NAME)
  const cities = sql(`${NAME}_city`)
  await sql`drop table if exists ${table}`
  await sql`drop table if exists ${cities}`
  await sql`create table ${cities} (id int primary key, name text not null)`
  await sql`create table ${table} (
    id bigint primary key, n int not null, price numeric(12,2), name text not null, code varchar(8) unique,
    ok boolean default true, at timestamptz, day date, ref uuid, doc jsonb, raw bytea, ratio double precision,
    city int references ${cities} (id))`
  await sql`insert into ${cities} ${sql([{ id: 1, name: 'Oslo' }, { id: 2, name: 'Zürich' }])}`

  const at = new Date('2024-02-29T12:30:15.123Z')
  const ref = '00112233-4455-6677-8899-aabbccddeeff'
  const person = { id: '7', n: 1, price: '12.50', name: "Ada 'n' co", code: 'a1', ok: false, at, ref,
    doc: { a: [1, null] }, raw: Buffer.from([0, 255]), ratio: 0.1, city: 1 }
  const [inserted] = await sql`insert into ${table} ${sql(person)} returning id, name`
  assert.deepStrictEqual({ ...inserted }, { id: '7', name: "Ada 'n' co" })
  await sql`insert into ${table} ${sql([{ id: 8, n: 2, name: '' }, { id: 9, n: 3, name: 'c' }], 'id', 'n', 'name')}`

  const rows = await sql`select * from ${table} order by n`
  const { day, ...ada } = rows[0]
  assert.strictEqual(day, null)
  assert.deepStrictEqual(ada, person)
  assert.deepStrictEqual(rows.columns.map((column) => column.type),
    [20, 23, 1700, 25, 1043, 16, 1184, 1082, 2950, 3802, 17, 701, 23])
  assert.deepStrictEqual((await sql`select n from ${table} where n in ${sql([1, 3])} order by n`).map((row) => row.n), [1, 3])
  assert.deepStrictEqual((await sql`select n from ${table} where n = any(${[1, 2]}) order by n`).map((row) => row.n), [1, 2])

  const seen = []
  await sql`select n from ${table} order by n`.cursor(2, (part) => { seen.push(part.length) })
  assert.deepStrictEqual(seen, [2, 1])

  const updated = await sql`update ${table} set ${sql({ name: 'Eve', ok: true })} where n = ${1}`
  assert.strictEqual(updated.count, 1)
  await assert.rejects(sql`insert into ${cities} values (1, 'again')`, { code: '23505', constraint_name: `${NAME}_city_pkey` })
  await assert.rejects(sql.begin(async (tx) => {
    await tx`delete from ${table}`
    await tx.savepoint(async (point) => { await point`insert into ${cities} values (2, 'again')` })
      .catch((error) => assert.strictEqual(error.code, '23505'))
    assert.strictEqual((await tx`select * from ${table}`).length, 0)
    throw new Error('enough')
  }), /enough/)
  assert.strictEqual((await sql`select * from ${table}`).length, 3)

  await pipeline(Readable.from(['3\tRome\n', '4\tLima\n']), await sql`copy ${cities} (id, name) from stdin`.writable())
  let copied = ''
  for await (const chunk of await sql`copy ${cities} (name) to stdout`.readable()) copied += chunk
  assert.deepStrictEqual(copied.trim().split('\n').sort(), ['Lima', 'Oslo', 'Rome', 'Zürich'])

  await sql`drop table ${table}`
  await sql`drop table ${cities}`
  await sql.end()
  const manifest = path.join(path.dirname(require.resolve('postgres')), '../../package.json')
  const { version } = JSON.parse(fs.readFileSync(manifest, 'utf8'))
  console.log(`node postgres ${version} (node ${process.version})`)
}

main().catch((error) => { console.error(error); process.exit(1) })
