// A subscriber for Node, written from docs/wire-format.md alone.
//
//   npm install zeromq @msgpack/msgpack
//   node subscriber.js tcp://127.0.0.1:5555 [SERVER-PUBLIC CLIENT-PUBLIC CLIENT-SECRET]
//
// Prints one line of JSON for each frame. The three keys are for a publisher that encrypts.
"use strict";
const fs = require("node:fs");
const { decode } = require("@msgpack/msgpack");
const { Subscriber } = require("zeromq");

const TOPIC = "rtfusion";
const MAX_HEADER_BYTES = 65536;
const MAX_IMAGE_BYTES = 1 << 28;
const SLOT_HEAD_BYTES = 64n;

function check(holds, what) {
  if (!holds) throw new Error(what);
}

function read(parts) {
  check(parts.length === 3, `${parts.length} parts`);
  const [, packed, payload] = parts;
  check(packed.length <= MAX_HEADER_BYTES, "the header is too long");
  const header = decode(packed, { useBigInt64: true });
  check(Number(header.schema) === 1, `schema ${header.schema}`);
  const pixels = Number(header.width_px) * Number(header.height_px) * 3;
  check(pixels > 0 && pixels <= MAX_IMAGE_BYTES, `${header.width_px}x${header.height_px}`);
  if (header.encoding === "bgr8") {
    check(payload.length === pixels, `${payload.length} bytes instead of ${pixels}`);
    return { header, image: payload };
  }
  if (header.encoding === "shm") return { header, image: fromSharedMemory(payload, pixels) };
  check(header.encoding === "jpeg" && payload.readUInt16BE(0) === 0xffd8, "not a JPEG image");
  return { header, image: payload };
}

function fromSharedMemory(payload, pixels) {
  const place = decode(payload, { useBigInt64: true });
  check(/^rtfusion-ring-[0-9a-f]{32}$/.test(place.name), "the name is not that of a ring");
  const [offset, ticket] = [BigInt(place.offset_bytes), BigInt(place.ticket)];
  const { O_RDONLY, O_NONBLOCK, O_NOFOLLOW } = fs.constants; // a pipe of that name is not waited for
  const file = fs.openSync(`/dev/shm/${place.name}`, O_RDONLY | O_NONBLOCK | O_NOFOLLOW);
  try {
    check(fs.fstatSync(file).isFile(), "the ring is no regular file");
    const found = Buffer.alloc(8);
    const image = Buffer.alloc(pixels);
    const whole = () => {
      check(fs.readSync(file, found, 0, 8, offset) === 8, "the ring is too short");
      check(found.readBigUInt64LE() === ticket, "the frame was overwritten: this reader is too slow");
    };
    whole();
    check(fs.readSync(file, image, 0, pixels, offset + SLOT_HEAD_BYTES) === pixels, "the ring is too short");
    whole();
    return image;
  } finally {
    fs.closeSync(file);
  }
}

async function main([url, serverKey, publicKey, secretKey]) {
  const socket = new Subscriber({ receiveHighWaterMark: 2 });
  if (serverKey) Object.assign(socket, { curveServerKey: serverKey, curvePublicKey: publicKey, curveSecretKey: secretKey });
  socket.subscribe(TOPIC);
  socket.connect(url);
  let before = null;
  for await (const parts of socket) {
    if (parts[0].toString() !== TOPIC) continue;
    try {
      const { header, image } = read(parts);
      const start = header.live ? BigInt(header.timestamp_ns) : BigInt(header.received_ns);
      const age = BigInt(header.published_ns) - start + BigInt(Date.now()) * 1000000n - BigInt(header.published_unix_ns);
      const same = before !== null && before.session === header.session;
      const missed = same ? Number(header.sequence) - Number(before.sequence) - 1 : 0;
      before = header;
      const { session, encoding, fuser } = header;
      const [sequence, width_px, height_px] = [header.sequence, header.width_px, header.height_px].map(Number);
      const sum = image.reduce((total, value) => total + value, 0);
      const line = { session, sequence, missed, width_px, height_px, encoding, fuser, bytes: image.length, sum };
      console.log(JSON.stringify({ ...line, timestamp_ns: String(header.timestamp_ns), age_ms: Number(age) / 1e6 }));
    } catch (error) {
      console.error(`a message was skipped: ${error.message}`);
    }
  }
}

main(process.argv.slice(2));
