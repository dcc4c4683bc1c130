-- Running requests: a sorted set of ids by the end of their lease.

-- The dead are only looked for where they are in the way, or many.
local MANY = 10000

-- How many hold a permit; `most`: how many may.
local function look_permits(key, role, most, now)
  local permits = { key = key, running = read(role, 'ZCARD', key) }
  if permits.running >= math.min(most, MANY) then
    permits.prune = true
    permits.running = read(role, 'ZCOUNT', key, '(' .. text(now), '+inf')
  end
  return permits
end

-- A lease this far ahead was given before the clock went back. Who is alive prolongs it in time.
local function shorten(key, role, now, lease)
  for _, id in ipairs(read(role, 'ZRANGEBYSCORE', key, text(now + 4 * lease), '+inf', 'LIMIT', 0, 500)) do
    redis.call('ZADD', key, text(now + lease), id)
  end
end

local function store_permit(permits, id, now, lease)
  if permits.prune then
    redis.call('ZREMRANGEBYSCORE', permits.key, '-inf', text(now))
  end
  redis.call('ZADD', permits.key, text(now + lease), id)
  redis.call('PEXPIRE', permits.key, text(4 * lease))
  permits.running = permits.running + 1
end
