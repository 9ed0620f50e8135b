#!/usr/bin/env node
'use strict'
// Multifeeds over one store in one directory, most often one, driven by JSON lines on stdin,
// answering with JSON lines on stdout. What it can do and what it answers is in ../README.md.

const net = require('net')
const { EventEmitter, once } = require('events')
const crypto = require('crypto')
const readline = require('readline')
const raf = require('random-access-file')
const { block } = require('./contents')

const usage = 'peer.js DIR [--key HEX] [--also HEX] [--announce-version V] [--announce-client NAME]' +
  ' [--expect-version V] [--expect-client NAME] [--timeout MS] [--package NAME]' +
  ' [--sparse] [--no-live] [--master-key HEX] [--json] [--latency MS] [--networker] [--muxers] [--existing-protocol]' +
  ' [--unencrypted]'

function main () {
  const options = parse(process.argv.slice(2))
  patchHandshake(options)
  if (options.sparse) patchSparse()
  const peer = new Peer(options)
  peer.open().then(() => {
    say({ event: 'ready', directory: options.directory, feeds: peer.multis[0].feeds().length })
    listenToCommands(peer)
  }, fail)
}

function parse (args) {
  const known = ['key', 'also', 'announce-version', 'announce-client', 'expect-version', 'expect-client', 'timeout', 'package',
    'master-key', 'latency']
  const options = { package: 'hypermultifeed', live: true }
  while (args.length) {
    const arg = args.shift()
    if (['--sparse', '--json', '--networker', '--muxers', '--existing-protocol', '--unencrypted'].includes(arg)) options[arg.slice(2)] = true
    else if (arg === '--no-live') options.live = false
    else if (arg.startsWith('--') && known.includes(arg.slice(2))) options[arg.slice(2)] = args.shift()
    else if (!options.directory && !arg.startsWith('-')) options.directory = arg
    else throw new Error(`unexpected argument ${arg}; usage: ${usage}`)
  }
  if (!options.directory) throw new Error(`no directory; usage: ${usage}`)
  return options
}

// Changes what this peer announces in its multifeed handshake, and what it expects in the other's.
// The package has these as constants of a module, so they are replaced while it is loaded.
function patchHandshake (options) {
  const text = (option, usual) => JSON.stringify(options[option] || usual)
  patch(`${options.package}/mux.js`, source => {
    source = replaced(source, 'client: MULTIFEED,', `client: ${text('announce-client', 'MULTIFEED')},`)
    source = replaced(source, 'version: PROTOCOL_VERSION,', `version: ${text('announce-version', '4.0.0')},`)
    source = replaced(source, "MULTIFEED = 'MULTIFEED'", `MULTIFEED = ${text('expect-client', 'MULTIFEED')}`)
    return replaced(source, "VERSION = '4.0.0'", `VERSION = ${text('expect-version', '4.0.0')}`)
  })
}

// Changes the source of a module of a package when it is loaded.
function patch (module, change) {
  const Module = require('module')
  const file = require.resolve(module)
  const compile = Module.prototype._compile
  Module.prototype._compile = function (source, name) {
    return compile.call(this, name === file ? change(source) : source, name)
  }
}

// Makes every hypercore sparse: corestore hands no such option on for feeds that a multifeed opens.
function patchSparse () {
  patch('hypercore/index.js', source => replaced(source, 'this.sparse = !!opts.sparse', 'this.sparse = true'))
}

function replaced (source, from, to) {
  if (!source.includes(from)) throw new Error(`the package has no ${from}`)
  return source.replace(from, to)
}

class Peer {
  constructor (options) {
    this.multifeed = require(options.package)
    const latency = Number(options.latency || 0)
    this.files = path => slowed(raf(`${options.directory}/${path}`), latency)
    this.json = options.json
    this.feedNames = []
    // A store of our own, because closing a multifeed leaves the feeds of its own store open. Multifeed 6
    // has none.
    const masterKey = options['master-key'] && Buffer.from(options['master-key'], 'hex')
    const Corestore = require('corestore')
    this.store = options.package === 'multifeed' ? null : new Corestore(this.files, masterKey ? { masterKey } : {})
    this.options = { live: options.live }
    if (options.unencrypted) this.options.encrypted = false
    this.multis = []
    this.listings = new Map()
    this.watched = new Map()
    this.existingProtocol = options['existing-protocol']
    this.swarms = options.networker
    if (options.networker || options.muxers) this.startNetworker()
    this.add(options.key)
    if (options.also) this.add(options.also)
    this.live = new Map()
    this.timeout = options.timeout && Number(options.timeout)
    this.sockets = new Set()
    this.streamExtensions = new Map()
    this.extensions = new Map()
    this.streams = []
    this.server = null
  }

  add (rootKey) {
    const options = rootKey ? { rootKey, encryptionKey: rootKey } : {}
    if (this.json) options.valueEncoding = 'json'
    const multi = this.multifeed(this.store || this.files, options)
    multi.on('error', report)
    multi.on('feed', (feed, name) => this.feedNames.push(name))
    if (this.swarms) this.swarm.swarm(multi)
    this.listings.set(multi, this.watchList(multi))
    this.multis.push(multi)
    return multi
  }

  async open () {
    for (const multi of this.multis) {
      await call(done => multi.ready(done))
      await this.readyFeeds(multi)
    }
  }

  // The networkers of corestore and of hypermultifeed over connections that are made by command.
  startNetworker () {
    const Networker = require('@corestore/networker')
    const MultifeedNetworker = require('hypermultifeed/networker')
    this.connections = new EventEmitter()
    const nothing = (...args) => { const done = args.pop(); if (typeof done === 'function') process.nextTick(done) }
    Object.assign(this.connections, { join: nothing, leave: nothing, flush: nothing, destroy: nothing })
    this.networker = new Networker(this.store, { swarm: this.connections })
    this.networker.on('replication-error', error => say({ event: 'replication-error', message: error.message }))
    this.networker.listen()
    this.swarm = new MultifeedNetworker(this.networker)
  }

  // Joins these root keys with a muxer alone, and adds a feed to all of them: one that is made, with one
  // block, or the one with this key.
  async mux ({ keys, value, feed: key }) {
    await this.store.ready()
    const feed = key ? this.store.get({ key }) : this.store.get()
    await call(done => feed.ready(done))
    if (value) await call(done => feed.append(Buffer.from(value), done))
    for (const root of keys) this.swarm.join(root, { live: true }).addFeed(feed)
    return { key: feed.key.toString('hex') }
  }

  // The feeds of a muxer as soon as there are so many, or the first block of one of them.
  async muxed ({ key, count = 0, get }) {
    const muxer = this.swarm.muxers.get(key)
    while (muxer.feeds().length < count) await once(muxer, 'feed')
    const feeds = muxer.feeds().map(feed => feed.key.toString('hex')).sort()
    if (!get) return { feeds }
    return { value: (await call(done => this.store.get({ key: get }).get(0, done))).toString() }
  }

  // Opens one more multifeed and adds it to the streams that run.
  async join ({ key }) {
    const multi = this.add(key)
    await call(done => multi.ready(done))
    for (const [stream, initiator] of this.live) multi.replicate(initiator, { live: true, stream })
    return {}
  }

  // The multifeed that a command is for.
  of ({ multifeed = 0 }) {
    return this.multis[multifeed]
  }

  // The feeds of this moment, opened. Others may join meanwhile.
  async readyFeeds (multi) {
    const feeds = multi.feeds()
    await Promise.all(feeds.map(feed => call(done => feed.ready(done))))
    return feeds
  }

  // Appends `blocks` blocks to the local writer `writer`; block i has `sizes[i % sizes.length]` bytes.
  // With `seed`, 32 bytes in hex, the writer has the key pair that follows from it; without `writer` it has
  // no name.
  async write ({ multifeed, writer, seed, blocks = 0, sizes = [100], batch = 1000 }) {
    const multi = this.of({ multifeed })
    const keyPair = seed && require('hypercore-crypto').keyPair(Buffer.from(seed, 'hex'))
    const feed = await call(done => multi.writer(writer, keyPair ? { keyPair, keypair: keyPair } : {}, done))
    await call(done => feed.ready(done))
    const end = feed.length + blocks
    while (feed.length < end) {
      const list = []
      for (let i = feed.length; i < end && list.length < batch; i++) {
        list.push(block(writer, i, sizes[i % sizes.length]))
      }
      await call(done => feed.append(list.length === 1 ? list[0] : list, done))
    }
    await this.flushList(multi)
    return { key: feed.key.toString('hex'), length: feed.length }
  }

  // Many writers, `prefix` and a number each.
  async writeMany ({ prefix, writers, blocks, sizes }) {
    for (let i = 0; i < writers; i++) await this.write({ writer: prefix + i, blocks, sizes })
    return {}
  }

  async listen ({ port = 0, host = '127.0.0.1' }) {
    this.server = net.createServer(socket => this.replicate(false, socket))
    await call(done => this.server.listen(port, host, done))
    return { port: this.server.address().port }
  }

  async connect ({ port, host = '127.0.0.1' }) {
    const socket = net.connect(port, host)
    await new Promise((resolve, reject) => {
      socket.once('connect', resolve)
      socket.once('error', reject)
    })
    this.connectedAt = process.hrtime.bigint()
    this.replicate(true, socket)
    return {}
  }

  replicate (initiator, socket) {
    socket.setNoDelay(true)
    this.sockets.add(socket)
    if (this.connections) {
      // The networker takes no socket of this machine.
      Object.defineProperty(socket, 'remoteAddress', { value: '192.0.2.1' })
      socket.on('close', () => { this.sockets.delete(socket); say({ event: 'closed', errors: [] }) })
      return this.connections.emit('connection', socket, { client: initiator, deduplicate: () => false })
    }
    const options = { ...this.options }
    if (this.timeout) options.timeout = this.timeout
    const Protocol = require('hypercore-protocol')
    const stream = this.multis[0].replicate(this.existingProtocol ? new Protocol(initiator) : initiator, options)
    for (const multi of this.multis.slice(1)) multi.replicate(initiator, { ...options, stream })
    this.live.set(stream, initiator)
    const registered = new Map()
    for (const [name, onmessage] of this.streamExtensions) {
      registered.set(name, stream.registerExtension(name, { onmessage }))
    }
    this.streams.push({ extension: name => registered.get(name) })
    const failures = new Set()
    const failed = error => {
      // The package reports each failure twice: by an event of its own and by the destroyed stream.
      if (!failures.has(error.message)) report(error)
      failures.add(error.message)
    }
    stream.on('error', failed)
    stream.on('remote-feeds', () => say({ event: 'remote-feeds' }))
    stream.on('end', () => say({ event: 'ended' }))
    stream.on('close', () => socket.destroy())
    socket.on('error', failed)
    socket.on('close', () => {
      this.sockets.delete(socket)
      this.live.delete(stream)
      stream.destroy()
      say({ event: 'closed', errors: [...failures] })
    })
    say({ event: 'connected', initiator })
    stream.pipe(socket).pipe(stream)
  }

  // Resolves when at least `feeds` feeds are in the set, every key of `lengths` has that many blocks
  // here, and everything is written to the files.
  wait ({ multifeed, feeds = 0, lengths = {} }) {
    const multi = this.of({ multifeed })
    return new Promise((resolve, reject) => {
      const missing = new Map(Object.entries(lengths))
      const check = () => {
        if (missing.size || multi.feeds().length < feeds) return
        multi.removeListener('feed', onfeed)
        const milliseconds = this.connectedAt ? Number(process.hrtime.bigint() - this.connectedAt) / 1e6 : undefined
        this.flush().then(() => resolve({ milliseconds }), reject)
      }
      const watch = feed => {
        const key = feed.key.toString('hex')
        if (!missing.has(key)) return
        const length = missing.get(key)
        feed.ready(error => {
          if (error) return reject(error)
          let left = length - feed.downloaded(0, length)
          const arrived = count => {
            left -= count
            if (left > 0) return
            feed.removeListener('download', ondownload)
            feed.removeListener('append', onappend)
            missing.delete(key)
            check()
          }
          const ondownload = index => { if (index < length) arrived(1) }
          // `append` says nothing about which blocks are held here unless we are the writer.
          const onappend = () => { if (feed.writable) arrived(left - (length - feed.downloaded(0, length))) }
          feed.on('download', ondownload)
          feed.on('append', onappend)
          arrived(0)
        })
      }
      const onfeed = feed => { watch(feed); check() }
      multi.on('feed', onfeed)
      for (const feed of multi.feeds()) watch(feed)
      check()
    })
  }

  // `download` is emitted before the bitfield is written: a process that left then would lose blocks.
  async flush () {
    for (const multi of this.multis) {
      for (const feed of await this.readyFeeds(multi)) await call(done => feed._sync(null, done))
      await this.flushList(multi)
    }
  }

  // Keeps account of the entries on their way into the list of feeds.
  watchList (multi) {
    const listing = new Set()
    const handlers = multi._handlers
    if (!handlers) return listing
    const storeFeed = handlers.storeFeed
    handlers.storeFeed = (info, done) => {
      const entry = call(stored => storeFeed.call(handlers, info, stored)).then(() => done(), done)
      listing.add(entry)
      entry.then(() => listing.delete(entry))
    }
    return listing
  }

  async flushList (multi) {
    await Promise.all(this.listings.get(multi))
    const { feed } = multi._handlers || {}
    // corestore-multifeed keeps its list to itself; there an entry is written when that is said.
    if (feed) await call(done => feed.flush(done))
  }

  async feeds ({ multifeed }) {
    const multi = this.of({ multifeed })
    const feeds = (await this.readyFeeds(multi)).map((feed, index) => ({
      index,
      key: feed.key.toString('hex'),
      name: [...(multi._feedsByName || Object.entries(multi._feeds))].filter(([, named]) => named === feed).map(([name]) => name)[0],
      writable: feed.writable,
      length: feed.length,
      blocks: feed.downloaded(0, feed.length)
    }))
    return { feeds: feeds.sort((a, b) => (a.key < b.key ? -1 : 1)) }
  }

  // Which blocks of each feed are held, and SHA-256 over them, each as its length (u64, little
  // endian) and its bytes.
  async digest ({ multifeed }) {
    const { feeds } = await this.feeds({ multifeed })
    for (const info of feeds) {
      const feed = this.of({ multifeed }).feed(info.key)
      const hash = crypto.createHash('sha256')
      info.ranges = []
      for (let i = 0; i < info.length; i++) {
        if (!feed.has(i)) continue
        const last = info.ranges[info.ranges.length - 1]
        if (last && last[1] === i) last[1]++
        else info.ranges.push([i, i + 1])
        const value = await call(done => feed.get(i, { wait: false, valueEncoding: 'binary' }, done))
        const length = Buffer.alloc(8)
        length.writeBigUInt64LE(BigInt(value.length))
        hash.update(length).update(value)
      }
      info.digest = hash.digest('hex')
    }
    return { feeds }
  }

  async feed (key) {
    const feed = this.multis.map(multi => multi.feed(key)).find(feed => feed)
    if (!feed) throw new Error(`no feed ${key}`)
    await call(done => feed.ready(done))
    return feed
  }

  // The block as hex, asked of peers if it is not here.
  async get ({ key, index, ifAvailable }) {
    const feed = await this.feed(key)
    const value = await call(done => feed.get(index, { ifAvailable }, done))
    return { value: value.toString('hex') }
  }

  // A feed that corestore knows by `name` or, without one, as the default of these namespaces.
  async named ({ name, namespaces = [], blocks = 0, sizes = [100] }) {
    const store = namespaces.reduce((store, namespace) => store.namespace(namespace), this.store)
    const feed = name ? store.get({ name }) : store.default()
    await call(done => feed.ready(done))
    const start = feed.length
    for (let i = start; i < start + blocks; i++) {
      await call(done => feed.append(block('named', i, sizes[i % sizes.length]), done))
    }
    return { key: feed.key.toString('hex'), length: feed.length, writable: feed.writable }
  }

  // Appends values to a writer that hypercore encodes as JSON.
  async writeValues ({ multifeed, writer, values }) {
    const multi = this.of({ multifeed })
    const feed = await call(done => multi.writer(writer, { valueEncoding: 'json' }, done))
    await call(done => feed.ready(done))
    for (const value of values) await call(done => feed.append(value, done))
    await this.flushList(multi)
    return { key: feed.key.toString('hex'), length: feed.length }
  }

  // Appends values to a feed in its own encoding, under one signature.
  async append ({ key, values }) {
    const feed = await this.feed(key)
    await call(done => feed.append(values, done))
    await this.flush()
    return { length: feed.length }
  }

  // The names that `feed` events said, in their order.
  async feedEvents () {
    return { names: this.feedNames }
  }

  // The value of a block in an encoding of hypercore's, or in that of the feed.
  async getValue ({ key, index, encoding }) {
    const feed = await this.feed(key)
    return { value: await call(done => feed.get(index, { valueEncoding: encoding }, done)) }
  }

  async clear ({ key, start, end }) {
    const feed = await this.feed(key)
    await call(done => feed.clear(start, end, done))
    return {}
  }

  async download ({ key, start, end }) {
    const feed = await this.feed(key)
    await call(done => feed.download({ start, end }, done))
    await this.flush()
    return {}
  }

  async has ({ key, start, end }) {
    const feed = await this.feed(key)
    return { has: feed.has(start, end) }
  }

  async update ({ key, length, ifAvailable }) {
    const feed = await this.feed(key)
    await call(done => feed.update({ minLength: length, ifAvailable }, done))
    return { length: feed.length }
  }

  async seek ({ key, bytes }) {
    const feed = await this.feed(key)
    return new Promise((resolve, reject) => feed.seek(bytes, (error, index, offset) => {
      if (error) reject(error)
      else resolve({ index, offset })
    }))
  }

  // Counts the events of a feed by their names, from here on.
  async watch ({ key, events }) {
    const feed = await this.feed(key)
    const counts = Object.fromEntries(events.map(event => [event, 0]))
    for (const event of events) feed.on(event, () => ++counts[event])
    this.watched.set(key, counts)
    return {}
  }

  async counts ({ key }) {
    return { counts: this.watched.get(key) }
  }

  // Switches of one feed, on all connections.
  async transfer ({ key, upload, download }) {
    const feed = await this.feed(key)
    feed.setUploading(upload)
    feed.setDownloading(download)
    return {}
  }

  // Registers an extension of a feed or, without `key`, of the streams made from here on.
  async register ({ key, name }) {
    const onmessage = message => say({ event: 'extension', key, name, message: message.toString() })
    if (!key) this.streamExtensions.set(name, onmessage)
    else this.extensions.set(key + name, (await this.feed(key)).registerExtension(name, { onmessage }))
    return {}
  }

  // Sends a message to all peers.
  async extend ({ key, name, message }) {
    if (key) this.extensions.get(key + name).broadcast(Buffer.from(message))
    else for (const stream of this.streams) stream.extension(name).send(Buffer.from(message))
    return {}
  }

  async disconnect () {
    await Promise.all([...this.sockets].map(socket => new Promise(resolve => {
      socket.once('close', resolve)
      socket.destroy()
    })))
    return {}
  }

  async close () {
    if (this.server) this.server.close()
    await this.disconnect()
    await this.flush()
    for (const multi of this.multis) await call(done => multi.close(done))
    if (this.store) await call(done => this.store.close(done))
    return { feeds: this.multis.map(multi => multi.feeds().length) }
  }
}

function listenToCommands (peer) {
  const commands = ['write', 'writeMany', 'join', 'listen', 'connect', 'wait', 'flush', 'feeds', 'digest', 'disconnect', 'close',
    'get', 'writeValues', 'getValue', 'clear', 'download', 'has', 'update', 'seek', 'transfer', 'watch', 'counts', 'register', 'extend', 'named', 'append', 'feedEvents', 'mux', 'muxed']
  // Those that may have to wait for another peer.
  const waiting = ['wait', 'get', 'getValue', 'download', 'update', 'seek']
  const lines = readline.createInterface({ input: process.stdin })
  let last = Promise.resolve()
  lines.on('line', line => {
    // One after another; those that wait go on their own, so later commands go past them.
    let command
    try {
      command = JSON.parse(line)
      if (!commands.includes(command.do)) throw new Error(`unknown command ${command.do}; known: ${commands.join(', ')}`)
    } catch (error) {
      return report(error)
    }
    const run = () => peer[command.do](command).then(
      answer => say({ event: 'done', id: command.id, do: command.do, ...answer }),
      error => say({ event: 'failed', id: command.id, do: command.do, message: error.message, stack: error.stack }))
    if (waiting.includes(command.do)) run()
    else last = last.then(run)
    if (command.do === 'close') last.then(leave)
  })
  lines.on('close', () => last.then(leave))
}

// The file with `latency` milliseconds before each operation.
function slowed (file, latency) {
  for (const operation of latency ? ['_open', '_openReadonly', '_read', '_write', '_del', '_stat'] : []) {
    const run = file[operation]
    file[operation] = request => setTimeout(() => run.call(file, request), latency)
  }
  return file
}

function call (start) {
  return new Promise((resolve, reject) => {
    start((error, value) => (error ? reject(error) : resolve(value)))
  })
}

function say (line) {
  process.stdout.write(JSON.stringify(line) + '\n')
}

function report (error) {
  const { code, usVersion, themVersion, usClient, themClient } = error
  say({ event: 'error', message: error.message, code, usVersion, themVersion, usClient, themClient })
}

// The last line may still be in the pipe.
function leave () {
  process.stdout.write('', () => process.exit(0))
}

function fail (error) {
  report(error)
  console.error(error.stack)
  process.exitCode = 1
}

process.on('uncaughtException', error => {
  say({ event: 'crashed', message: error.message, stack: error.stack })
  process.exit(1)
})

main()
