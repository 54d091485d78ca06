// SPDX-License-Identifier: Apache-2.0
// An OTLP receiver on grpc-js: node grpc_js_receiver.js FILE [KEY CERTIFICATE]. It prints its port. Before it answers a
// request, it appends a line to FILE: the path and the body in base64.
const fs = require('fs')
const grpc = require('@grpc/grpc-js')

const [file, key, certificate] = process.argv.slice(2)
const raw = (bytes) => bytes
const service = Object.fromEntries(['trace.v1.Trace', 'logs.v1.Logs', 'metrics.v1.Metrics'].map((name) => [name, {
  path: `/opentelemetry.proto.collector.${name}Service/Export`, requestStream: false, responseStream: false,
  requestSerialize: raw, requestDeserialize: raw, responseSerialize: raw, responseDeserialize: raw
}]))
const server = new grpc.Server()
server.addService(service, Object.fromEntries(Object.entries(service).map(([name, method]) => [name, (call, answer) => {
  fs.appendFileSync(file, `${method.path} ${call.request.toString('base64')}\n`)
  answer(null, Buffer.alloc(0))
}])))
const credentials = key
  ? grpc.ServerCredentials.createSsl(null, [{ private_key: fs.readFileSync(key), cert_chain: fs.readFileSync(certificate) }])
  : grpc.ServerCredentials.createInsecure()
server.bindAsync('127.0.0.1:0', credentials, (error, port) => {
  if (error) throw error
  console.log(port)
})
