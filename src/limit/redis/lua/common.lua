-- What every script begins with.
--
-- A Lua number is a double. Counts and amounts are therefore at most 2^53 - 1, where a double is still exact and a sum of two
-- is still told apart from it; they travel and are kept as decimal text. Times are milliseconds since 1970.
--
-- A script reads everything it needs before it writes anything: Redis does not take back what a script has written when it fails
-- later, and a read is what finds a key of the wrong type.

local MOST = 9007199254740991

-- Ends the script: the data under the key with this role is not ours. Nothing may have been written yet.
local function fail(role, cause)
  error({ role = role, cause = cause }, 0)
end

local function text(number)
  return string.format('%.0f', number)
end

local function read(role, ...)
  local reply = redis.pcall(...)
  if type(reply) == 'table' and reply.err then
    if string.find(reply.err, 'WRONGTYPE', 1, true) then
      fail(role, 'a value of another type')
    end
    error(reply, 0)
  end
  return reply
end

-- A count that was read; what is absent is 0.
local function count(value, role)
  if not value then
    return 0
  end
  local number = tonumber(value)
  if not number or number < 0 or number > MOST or number ~= math.floor(number) then
    fail(role, 'not a count')
  end
  return number
end

local function add(a, b)
  return math.min(a + b, MOST)
end

local function sub(a, b)
  return math.max(a - b, 0)
end

-- The server's time, unless a test says what time it is.
local function clock(given)
  if given ~= '' then
    return tonumber(given)
  end
  local now = redis.call('TIME')
  return now[1] * 1000 + math.floor(now[2] / 1000)
end

-- What a server says begins with its code. Before version 7 that comes behind the place in the script.
local function told(problem)
  return string.match(problem, '%u%u+ .*') or 'ERR ' .. problem
end

local function run(main)
  local ok, result = pcall(main)
  if ok then
    return result
  end
  if type(result) ~= 'table' then
    return redis.error_reply(told(result))
  end
  if result.role then
    return { 'bad', result.role, result.cause }
  end
  return result
end
