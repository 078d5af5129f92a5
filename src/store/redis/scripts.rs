//! The scripts: every change that must be whole, in Lua, as the protocol has them.
//!
//! Every key that a script touches is in KEYS, so that a slot that is being moved loses no write. Nothing in them
//! can fail after the first write, since a script that stops half way is not undone.

/// Adds a batch once by its number, in order.
///
/// KEYS watermark, pending, todo, day… · ARGV number, field, batch, bucket, due, until, ttl, (index of the day in KEYS,
/// figure, delta)…
pub(super) const APPLY: &str = r"
local w, n = tonumber(redis.call('GET', KEYS[1]) or '0'), tonumber(ARGV[1])
if n <= w then redis.call('PEXPIRE', KEYS[1], ARGV[7]) return {'dup', w} end
if n > w + 1 then return {'gap', w} end
local t = redis.call('TIME')
if t[1] * 1000 + t[2] / 1000 >= tonumber(ARGV[6]) then return {'late', w} end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
redis.call('ZADD', KEYS[3], 'NX', ARGV[5], ARGV[4])
local broken = 0
for i = 8, #ARGV, 3 do
  local r = redis.pcall('HINCRBY', KEYS[tonumber(ARGV[i])], ARGV[i + 1], ARGV[i + 2])
  if type(r) == 'table' and r.err then broken = broken + 1 end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[7])
return {'ok', n, broken}
";

/// Passes over numbers that will not come.
///
/// KEYS watermark, books, damaged · ARGV first, last, reason, start of the newest bucket that they may be of, ttl
pub(super) const PASS: &str = r"
local w = tonumber(redis.call('GET', KEYS[1]) or '0')
if w >= tonumber(ARGV[2]) then return {'dup', w} end
if w ~= tonumber(ARGV[1]) - 1 then return {'gap', w} end
redis.call('HINCRBY', KEYS[2], ARGV[3], ARGV[2] - ARGV[1] + 1)
if ARGV[3] == 'lost' and tonumber(ARGV[4]) > tonumber(redis.call('GET', KEYS[3]) or '0') then redis.call('SET', KEYS[3], ARGV[4]) end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[5])
return {'ok', tonumber(ARGV[2])}
";

/// Moves pending batches into the sealed bucket, and what they add up to into the next coarser one.
///
/// KEYS pending, sealed, todo, pending of the coarser bucket (none: the first again), stage, log, out… · ARGV expected
/// version or '', new version, 'keep' or 'up', bucket, 'coarser bucket@due', until, expire at, fields staged, k, k
/// fields, delta, chunk, bytes…
pub(super) const FOLD: &str = r"
local staged, k = tonumber(ARGV[8]), tonumber(ARGV[9])
if (redis.call('HGET', KEYS[2], '~version') or '') ~= ARGV[1] then return 'changed' end
if staged > 0 and redis.call('HLEN', KEYS[5]) ~= staged then return 'changed' end
for i = 10, 9 + k do if redis.call('HEXISTS', KEYS[1], ARGV[i]) == 0 then return 'changed' end end
local keep = redis.call('TIME')[1] * 1000 < tonumber(ARGV[6])
if keep ~= (ARGV[3] == 'keep') then return 'changed' end
local function chunks(cmd, key, from, to)
  for i = from, to, 4000 do redis.call(cmd, key, unpack(ARGV, i, math.min(i + 3999, to))) end
end
chunks('HDEL', KEYS[1], 10, 9 + k)
if keep then
  if staged > 0 then redis.call('RENAME', KEYS[5], KEYS[2]) end
  redis.call('HSET', KEYS[2], '~version', ARGV[2])
  chunks('HSET', KEYS[2], 11 + k, #ARGV)
  redis.call('PEXPIREAT', KEYS[2], ARGV[7])
  redis.pcall('LPUSH', KEYS[6], ARGV[4] .. ' ' .. ARGV[2])
  redis.pcall('LTRIM', KEYS[6], 0, 63)
  for i = 7, #KEYS do redis.call('HSET', KEYS[i], ARGV[4], ARGV[2]) end
end
if KEYS[4] ~= KEYS[1] then
  redis.call('HSET', KEYS[4], ARGV[2], ARGV[10 + k])
  local up, due = string.match(ARGV[5], '(.*)@(.*)')
  redis.call('ZADD', KEYS[3], 'NX', due, up)
end
if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('ZREM', KEYS[3], ARGV[4]) end
return 'ok'
";

/// Renews leases that are still ours; which of them are.
///
/// KEYS lease… · ARGV milliseconds, token…
pub(super) const RENEW: &str = r"
local tokens, ours = redis.call('MGET', unpack(KEYS)), {}
for i = 1, #KEYS do
  ours[i] = tokens[i] == ARGV[i + 1] and 1 or 0
  if ours[i] == 1 then redis.call('PEXPIRE', KEYS[i], ARGV[1]) end
end
return ours
";

/// Gives up a lease that is still ours.
///
/// KEYS lease · ARGV token
pub(super) const RELEASE: &str = r"
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
return 1
";

/// Takes a bucket off a destination's list in the version that was stated.
///
/// KEYS out · ARGV bucket, version
pub(super) const STRIKE: &str = r"
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[1], ARGV[1])
return 1
";

/// Puts a sealed bucket on a destination's list again, in the version it has.
///
/// KEYS out, sealed · ARGV bucket
pub(super) const AGAIN: &str = r"
local version = redis.call('HGET', KEYS[2], '~version')
if not version then return 0 end
return redis.call('HSET', KEYS[1], ARGV[1], version)
";

/// Says that a node is there, and who else is: those seen in the last five seconds of this Redis' clock.
///
/// KEYS nodes · ARGV node ('' to look only), '1' to leave
pub(super) const NODES: &str = r"
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
if ARGV[2] == '1' then redis.call('ZREM', KEYS[1], ARGV[1]) else redis.call('ZADD', KEYS[1], now, ARGV[1]) end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - 60000)
return {now, redis.call('ZCOUNT', KEYS[1], now - 5000, '+inf')}
";

/// Puts up a note, unless there is one of its name.
///
/// KEYS notices · ARGV name, text
pub(super) const POST: &str = r"
if redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2]) == 0 then return 0 end
redis.call('HINCRBY', KEYS[1], '~state', 1)
return 1
";

/// Writes a note anew, or takes it down.
///
/// KEYS notices · ARGV name, text ('' takes it down)
pub(super) const CHANGE: &str = r"
if ARGV[2] == '' then redis.call('HDEL', KEYS[1], ARGV[1]) else redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) end
return redis.call('HINCRBY', KEYS[1], '~state', 1)
";

/// All scripts, by the number that [`Script`] gives them.
pub(super) const ALL: [&str; 10] = [APPLY, PASS, FOLD, RENEW, RELEASE, STRIKE, AGAIN, NODES, POST, CHANGE];

/// Which script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Script {
    Apply,
    Pass,
    Fold,
    Renew,
    Release,
    Strike,
    Again,
    Nodes,
    Post,
    Change,
}
