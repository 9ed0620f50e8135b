#!/usr/bin/env node
'use strict'
// The multiplexer of a package alone, without a multifeed, driven by JSON lines on stdin:
// mux.js PACKAGE KEY USERDATA. What it can do and what it answers is in ../README.md.

const net = require('net')
const readline = require('readline')

const [name, key, userData] = process.argv.slice(2)
const multiplexer = require(`${name}/mux.js`)
let mux = null

function start (initiator, socket) {
  socket.setNoDelay(true)
  const options = { userData: JSON.parse(userData), live: true }
  const Protocol = require('hypercore-protocol')
  // That of multifeed 6 makes its stream itself.
  if (name !== 'multifeed') options.stream = new Protocol(initiator, options)
  mux = multiplexer(initiator, Buffer.from(key, 'hex'), options)
  mux.on('ready', header => say({ event: 'ready', header }))
  mux.on('manifest', manifest => say({ event: 'manifest', keys: manifest.keys }))
  mux.on('replicate', keys => say({ event: 'replicate', keys }))
  mux.stream.on('error', error => say({ event: 'error', message: error.message }))
  mux.stream.on('close', () => socket.destroy())
  socket.on('error', () => {})
  mux.stream.pipe(socket).pipe(mux.stream)
}

const commands = {
  listen () {
    const server = net.createServer(socket => { server.close(); start(false, socket) })
    server.listen(0, '127.0.0.1', () => say({ event: 'listening', port: server.address().port }))
  },
  connect ({ port }) {
    const socket = net.connect(port, '127.0.0.1', () => start(true, socket))
  },
  offer: ({ keys }) => mux.offerFeeds(keys),
  request: ({ keys }) => mux.requestFeeds(keys)
}

function say (line) {
  process.stdout.write(JSON.stringify(line) + '\n')
}

readline.createInterface({ input: process.stdin })
  .on('line', line => { const command = JSON.parse(line); commands[command.do](command) })
  .on('close', () => process.exit(0))
