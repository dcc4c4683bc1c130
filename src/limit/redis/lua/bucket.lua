-- Requests per second: a token bucket, kept as what is missing in it and since when ("missing:time"), so that no key is a full
-- bucket. Unit: millionths of a request, because a rate in thousandths of a request per second is as many of them per
-- millisecond, so that nothing is ever rounded.

local ONE = 1000000

local function look_bucket(key, role, rate, size, now)
  local bucket = { key = key, rate = rate, size = size, missing = 0, at = now }
  local value = read(role, 'GET', key)
  if not value then
    return bucket
  end
  local missing, at = string.match(value, '^(%d+):(%d+)$')
  if not missing then
    fail(role, 'not an entry')
  end
  missing, at = count(missing, role), count(at, role)
  if at > now and (at - now) * rate <= bucket.size then
    -- The clock went back a little: nothing flows in until it has caught up.
    bucket.at = at
  elseif at > now then
    -- It went back further than that may last: from now on it flows in.
    bucket.set_back = true
  end
  bucket.missing = sub(missing, math.max(now - at, 0) * rate)
  return bucket
end

-- Notes that the clock was put back, whatever becomes of the request, or it would be found again by each one.
local function settle_clock(bucket)
  if bucket.set_back then
    redis.call('SET', bucket.key, text(bucket.missing) .. ':' .. text(bucket.at), 'KEEPTTL')
  end
end

-- How long until one request fits in; -1: never.
local function until_refilled(bucket, now)
  local surplus = bucket.missing + ONE - bucket.size
  if bucket.size < ONE or bucket.rate == 0 then
    return -1
  end
  return math.ceil(surplus / bucket.rate) + bucket.at - now
end

local function store_bucket(bucket)
  bucket.missing = add(bucket.missing, ONE)
  local full_ms = 86400000
  if bucket.rate > 0 then
    full_ms = math.ceil(bucket.missing / bucket.rate)
  end
  redis.call('SET', bucket.key, text(bucket.missing) .. ':' .. text(bucket.at), 'PX', text(full_ms + 1000))
end

-- Returns what puts one request back.
local function put_back(key, role)
  local value = read(role, 'GET', key)
  if not value then
    return nil
  end
  local missing, at = string.match(value, '^(%d+):(%d+)$')
  if not missing then
    fail(role, 'not an entry')
  end
  missing = sub(count(missing, role), ONE)
  return function()
    redis.call('SET', key, text(missing) .. ':' .. at, 'KEEPTTL')
  end
end
