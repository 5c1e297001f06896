/* SHA-256 of many items at once. One text: CUDA C, OpenCL C and host C (words.h says which words differ).
 *
 * Source: FIPS 180-4, sections 4.1.2 (functions), 4.2.2 (constants), 5.1.1 (padding), 6.2.2 (compression).
 *
 *   quipu_sha256_chains   h <- SHA-256(h), `steps` times       one block a step
 *   quipu_sha256_nodes    SHA-256(prefix, left, right)         two blocks: 65 bytes, then padding
 *   quipu_sha256_many     SHA-256(message)                     size / 64 blocks and one or two
 *
 * The rounds are written out, so that each constant is part of an instruction, the schedule stays in registers, and
 * in chains the words of the padding fold away. Hashes lie in memory as their 32 bytes.
 */

#define Q_ROTATED(x, n) ((x) >> (n) | (x) << (32 - (n)))
#define Q_SUM_A(a) (Q_ROTATED(a, 2) ^ Q_ROTATED(a, 13) ^ Q_ROTATED(a, 22))
#define Q_SUM_E(e) (Q_ROTATED(e, 6) ^ Q_ROTATED(e, 11) ^ Q_ROTATED(e, 25))
#define Q_SIGMA_0(x) (Q_ROTATED(x, 7) ^ Q_ROTATED(x, 18) ^ (x) >> 3)
#define Q_SIGMA_1(x) (Q_ROTATED(x, 17) ^ Q_ROTATED(x, 19) ^ (x) >> 10)
#define Q_CHOICE(e, f, g) ((g) ^ ((e) & ((f) ^ (g))))
#define Q_MAJORITY(a, b, c) (((a) & (b)) | ((c) & ((a) | (b))))

/* Word i of the schedule: the block's own, and from 16 on made in the place of word i - 16. */
#define Q_FIRST(i) w[i]
#define Q_NEXT(i) \
    (w[(i) & 15] += Q_SIGMA_1(w[((i) + 14) & 15]) + w[((i) + 9) & 15] + Q_SIGMA_0(w[((i) + 1) & 15]))

/* A round renames its eight words instead of moving them: the caller rotates the arguments. */
#define Q_ROUND(a, b, c, d, e, f, g, h, k, word) \
    h += Q_SUM_E(e) + Q_CHOICE(e, f, g) + (k) + (word); \
    d += h; \
    h += Q_SUM_A(a) + Q_MAJORITY(a, b, c);

#define Q_EIGHT(word, i, k0, k1, k2, k3, k4, k5, k6, k7) \
    Q_ROUND(a, b, c, d, e, f, g, h, k0, word((i) + 0)) \
    Q_ROUND(h, a, b, c, d, e, f, g, k1, word((i) + 1)) \
    Q_ROUND(g, h, a, b, c, d, e, f, k2, word((i) + 2)) \
    Q_ROUND(f, g, h, a, b, c, d, e, k3, word((i) + 3)) \
    Q_ROUND(e, f, g, h, a, b, c, d, k4, word((i) + 4)) \
    Q_ROUND(d, e, f, g, h, a, b, c, k5, word((i) + 5)) \
    Q_ROUND(c, d, e, f, g, h, a, b, k6, word((i) + 6)) \
    Q_ROUND(b, c, d, e, f, g, h, a, k7, word((i) + 7))

Q_DEVICE void q_sha256_start(u32 *state)
{
    state[0] = 0x6a09e667u;
    state[1] = 0xbb67ae85u;
    state[2] = 0x3c6ef372u;
    state[3] = 0xa54ff53au;
    state[4] = 0x510e527fu;
    state[5] = 0x9b05688cu;
    state[6] = 0x1f83d9abu;
    state[7] = 0x5be0cd19u;
}

/* Take one block into the state; the block's words are used up. */
Q_DEVICE void q_sha256_compress(u32 *state, u32 *w)
{
    u32 a = state[0], b = state[1], c = state[2], d = state[3];
    u32 e = state[4], f = state[5], g = state[6], h = state[7];
    Q_EIGHT(Q_FIRST, 0, 0x428a2f98u, 0x71374491u, 0xb5c0fbcfu, 0xe9b5dba5u,
        0x3956c25bu, 0x59f111f1u, 0x923f82a4u, 0xab1c5ed5u)
    Q_EIGHT(Q_FIRST, 8, 0xd807aa98u, 0x12835b01u, 0x243185beu, 0x550c7dc3u,
        0x72be5d74u, 0x80deb1feu, 0x9bdc06a7u, 0xc19bf174u)
    Q_EIGHT(Q_NEXT, 16, 0xe49b69c1u, 0xefbe4786u, 0x0fc19dc6u, 0x240ca1ccu,
        0x2de92c6fu, 0x4a7484aau, 0x5cb0a9dcu, 0x76f988dau)
    Q_EIGHT(Q_NEXT, 24, 0x983e5152u, 0xa831c66du, 0xb00327c8u, 0xbf597fc7u,
        0xc6e00bf3u, 0xd5a79147u, 0x06ca6351u, 0x14292967u)
    Q_EIGHT(Q_NEXT, 32, 0x27b70a85u, 0x2e1b2138u, 0x4d2c6dfcu, 0x53380d13u,
        0x650a7354u, 0x766a0abbu, 0x81c2c92eu, 0x92722c85u)
    Q_EIGHT(Q_NEXT, 40, 0xa2bfe8a1u, 0xa81a664bu, 0xc24b8b70u, 0xc76c51a3u,
        0xd192e819u, 0xd6990624u, 0xf40e3585u, 0x106aa070u)
    Q_EIGHT(Q_NEXT, 48, 0x19a4c116u, 0x1e376c08u, 0x2748774cu, 0x34b0bcb5u,
        0x391c0cb3u, 0x4ed8aa4au, 0x5b9cca4fu, 0x682e6ff3u)
    Q_EIGHT(Q_NEXT, 56, 0x748f82eeu, 0x78a5636fu, 0x84c87814u, 0x8cc70208u,
        0x90befffau, 0xa4506cebu, 0xbef9a3f7u, 0xc67178f2u)
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
    state[4] += e;
    state[5] += f;
    state[6] += g;
    state[7] += h;
}

Q_DEVICE void q_sha256_store(Q_GLOBAL u32 *out, const u32 *state)
{
    for (int i = 0; i < 8; i += 1)
        out[i] = Q_BIG_ENDIAN(state[i]);
}

Q_DEVICE void q_sha256_chain(Q_GLOBAL u32 *hash, u64 steps)
{
    u32 state[8], w[16];
    for (int i = 0; i < 8; i += 1)
        state[i] = Q_BIG_ENDIAN(hash[i]);
    for (u64 step = 0; step < steps; step += 1) {
        for (int i = 0; i < 8; i += 1)
            w[i] = state[i];
        w[8] = 0x80000000u;
        for (int i = 9; i < 15; i += 1)
            w[i] = 0;
        w[15] = 256;
        q_sha256_start(state);
        q_sha256_compress(state, w);
    }
    q_sha256_store(hash, state);
}

/* The prefix moves every word of the pair by one byte; the last byte begins the second block. */
Q_DEVICE void q_sha256_node(Q_GLOBAL const u32 *pair, Q_GLOBAL u32 *out, u32 prefix)
{
    u32 state[8], w[16];
    u32 before = prefix;
    for (int i = 0; i < 16; i += 1) {
        u32 word = Q_BIG_ENDIAN(pair[i]);
        w[i] = before << 24 | word >> 8;
        before = word;
    }
    q_sha256_start(state);
    q_sha256_compress(state, w);
    w[0] = before << 24 | 0x00800000u;
    for (int i = 1; i < 15; i += 1)
        w[i] = 0;
    w[15] = 65 * 8;
    q_sha256_compress(state, w);
    q_sha256_store(out, state);
}

/* Word `at` of a message of `size` bytes with its padding, but for the length at its end. */
Q_DEVICE u32 q_padded(Q_GLOBAL const u32 *words, u32 size, u32 at)
{
    u32 whole = size / 4, rest = size % 4;
    if (at < whole)
        return Q_BIG_ENDIAN(words[at]);
    if (at > whole)
        return 0;
    /* No word is read that holds no byte of the message. */
    u32 tail = rest == 0 ? 0 : Q_BIG_ENDIAN(words[at]) >> (32 - 8 * rest) << (32 - 8 * rest);
    return tail | 0x80000000u >> 8 * rest;
}

Q_DEVICE void q_sha256_message(Q_GLOBAL const u32 *words, u32 size, Q_GLOBAL u32 *out)
{
    u32 state[8], w[16];
    /* The mark of one byte and the length of eight fit the last block, or one more is needed. */
    u32 block_count = (u32)(((u64)size + 9 + 63) / 64);
    q_sha256_start(state);
    for (u32 block = 0; block < block_count; block += 1) {
        for (u32 i = 0; i < 16; i += 1)
            w[i] = q_padded(words, size, block * 16 + i);
        if (block + 1 == block_count) {
            w[14] = size >> 29;
            w[15] = size << 3;
        }
        q_sha256_compress(state, w);
    }
    q_sha256_store(out, state);
}

/* hashes: [count][8], each replaced by the end of its chain. */
Q_KERNEL quipu_sha256_chains(Q_GLOBAL u32 *hashes, u64 count, u64 steps)
{
    Q_ITEMS(i, count) q_sha256_chain(hashes + 8 * i, steps);
}

/* pairs: [count][2][8]; out: [count][8]. Of `prefix` the low byte counts. */
Q_KERNEL quipu_sha256_nodes(Q_GLOBAL const u32 *pairs, Q_GLOBAL u32 *out, u64 count, u32 prefix)
{
    Q_ITEMS(i, count) q_sha256_node(pairs + 16 * i, out + 8 * i, prefix);
}

/* places: [count][2], of each message its first word in `words` and its size in bytes; out: [count][8]. */
Q_KERNEL quipu_sha256_many(Q_GLOBAL const u32 *words, Q_GLOBAL const u32 *places, Q_GLOBAL u32 *out, u64 count)
{
    Q_ITEMS(i, count) q_sha256_message(words + places[2 * i], places[2 * i + 1], out + 8 * i);
}
