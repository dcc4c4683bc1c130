-- A sliding window: a hash of slots and their totals.
--   all     newest slot:oldest that may be there:requests:tokens (of all slots)
--   <slot>  requests:tokens
-- A slot counts until all of it is out of the window, which is why one slot more than the window is long is looked at. Every
-- slot is dropped once, by the first request after it is out, so the work per request does not depend on the window's length.

local SHAPES = {
  m = { slots = 60, length = 1000 },
  d = { slots = 96, length = 900000 },
}

-- Requests and tokens of one slot.
local function pair(value, role)
  if not value then
    return 0, 0
  end
  local requests, tokens = string.match(value, '^(%d+):(%d+)$')
  if not requests then
    fail(role, 'not an entry')
  end
  return count(requests, role), count(tokens, role)
end

local function totals(value, role)
  local last, first, requests, tokens = string.match(value, '^(%d+):(%d+):(%d+):(%d+)$')
  if not last then
    fail(role, 'not an entry')
  end
  return count(last, role), count(first, role), count(requests, role), count(tokens, role)
end

local function slots(from, to)
  local names = {}
  for slot = from, to do
    names[#names + 1] = text(slot)
  end
  return names
end

local function drop_old(window, last)
  local oldest = window.present - window.shape.slots
  if window.first >= oldest then
    return
  end
  window.gone = slots(window.first, math.min(last, oldest - 1))
  for _, value in ipairs(read(window.role, 'HMGET', window.key, unpack(window.gone))) do
    local requests, tokens = pair(value, window.role)
    window.requests, window.tokens = sub(window.requests, requests), sub(window.tokens, tokens)
  end
  window.first = oldest
end

-- Reads a window as it stands now.
local function look(key, kind, role, now)
  local shape = SHAPES[kind]
  local present = math.floor(now / shape.length)
  local got = read(role, 'HMGET', key, 'all', text(present))
  local window = {
    key = key, role = role, shape = shape, present = present, first = present, last = false,
    requests = 0, tokens = 0, slot_requests = 0, slot_tokens = 0,
  }
  if not got[1] then
    return window
  end
  local last, first, requests, tokens = totals(got[1], role)
  if first > last or last - first > shape.slots then
    fail(role, 'slots out of order')
  end
  -- Nothing in it is of the last window, or the clock went back further than one: begin anew.
  if math.abs(present - last) > shape.slots then
    window.wipe = true
    return window
  end
  window.first, window.last, window.requests, window.tokens = first, last, requests, tokens
  local slot = got[2]
  if last > present then
    -- The clock went back a little: time stands still until it has caught up, so that nothing is counted into the past.
    window.present = last
    slot = read(role, 'HGET', key, text(last))
  end
  window.slot_requests, window.slot_tokens = pair(slot, role)
  drop_old(window, last)
  return window
end

-- Counts into the present slot.
local function store(window, requests, tokens)
  local key, slot = window.key, text(window.present)
  if window.wipe then
    redis.call('DEL', key)
  elseif window.gone then
    redis.call('HDEL', key, unpack(window.gone))
  end
  window.requests, window.tokens = add(window.requests, requests), add(window.tokens, tokens)
  redis.call('HSET', key,
    'all', string.format('%.0f:%.0f:%.0f:%.0f', window.present, window.first, window.requests, window.tokens),
    slot, string.format('%.0f:%.0f', add(window.slot_requests, requests), add(window.slot_tokens, tokens)))
  if window.last ~= window.present then
    window.last = window.present
    redis.call('PEXPIRE', key, text((window.shape.slots + 2) * window.shape.length))
  end
end

-- Returns what uncounts something that was counted at a moment, as far as it still counts.
local function take_back(key, kind, role, at, requests, tokens)
  local slot = text(math.floor(at / SHAPES[kind].length))
  local got = read(role, 'HMGET', key, 'all', slot)
  if not got[1] or not got[2] then
    return nil
  end
  local last, first, all_requests, all_tokens = totals(got[1], role)
  local slot_requests, slot_tokens = pair(got[2], role)
  requests, tokens = math.min(requests, slot_requests), math.min(tokens, slot_tokens)
  return function()
    redis.call('HSET', key,
      'all', string.format('%.0f:%.0f:%.0f:%.0f', last, first, sub(all_requests, requests), sub(all_tokens, tokens)),
      slot, string.format('%.0f:%.0f', slot_requests - requests, slot_tokens - tokens))
  end
end

-- How long until a slot no longer counts.
local function until_out(window, slot, now)
  return (slot + window.shape.slots + 1) * window.shape.length - now
end

-- How long until `wanted` more fit in; -1: never. `of_tokens`: tokens, not requests.
local function until_fits(window, of_tokens, wanted, limit, now)
  if wanted > limit then
    return -1
  end
  local total = of_tokens and window.tokens or window.requests
  local values = read(window.role, 'HMGET', window.key, unpack(slots(window.first, window.present)))
  for i, value in ipairs(values) do
    local requests, tokens = pair(value, window.role)
    total = sub(total, of_tokens and tokens or requests)
    if total + wanted <= limit then
      return until_out(window, window.first + i - 1, now)
    end
  end
  return until_out(window, window.present, now)
end
