-- What scripts see in place of what could run long without an instruction being counted.
--
-- The standard library's loops over tables are in C, where nothing is counted, and ask metatables
-- how far to go. Written in Lua they are counted like everything else. What cannot be written in
-- Lua is a Rust function in `native`.

local native = ...

local error, next, rawget, rawset, select, tonumber, type = error, next, rawget, rawset, select, tonumber, type
local byte, lower, sub = string.byte, string.lower, string.sub
local maxinteger, min, tointeger = math.maxinteger, math.min, math.tointeger
local raw_concat, raw_unpack, pack = table.concat, table.unpack, table.pack
local raw_pcall, plain, lock, scan, write = pcall, native.plain, native.lock, native.scan, native.log

-- The level of the function that calls one of the library, seen from a function which that one calls.
local CALLER = 3

local function need(given, position, name, needed, value)
  if not given then
    error("bad argument #" .. position .. " to '" .. name .. "' (" .. needed .. " is needed, got " .. type(value) .. ")", CALLER)
  end
end

-- A whole number, also if written as a text; `default` in place of nil.
local function whole(value, position, name, default)
  if value == nil and default then
    return default
  end
  local number = tointeger(tonumber(value))
  if not number then
    error("bad argument #" .. position .. " to '" .. name .. "' (a whole number is needed, got " .. type(value) .. ")", CALLER)
  end
  return number
end

local function is_text(value)
  return type(value) == "string" or type(value) == "number"
end

-- pcall and xpcall

-- What a native function raises becomes a text, as errors of the standard library are.
local function settle(ok, ...)
  if ok then
    return true, ...
  end
  return false, plain((...))
end

local function protected_call(f, ...)
  return settle(raw_pcall(f, ...))
end

-- The standard one calls its handler where the error is raised, which may be inside the hook that
-- counts: there nothing is counted.
local function protected_call_with_handler(f, handler, ...)
  local results = pack(raw_pcall(f, ...))
  if results[1] then
    return raw_unpack(results, 1, results.n)
  end
  return false, handler(plain(results[2]))
end

-- table

local MOST_RESULTS = 10000

local function insert(list, ...)
  need(type(list) == "table", 1, "insert", "a table", list)
  local length, count = #list, select("#", ...)
  if count == 1 then
    list[length + 1] = ...
    return
  end
  if count ~= 2 then
    error("wrong number of arguments to 'insert'", CALLER - 1)
  end
  local position, value = ...
  position = whole(position, 2, "insert")
  if position < 1 or position > length + 1 then
    error("bad argument #2 to 'insert' (position out of bounds)", CALLER - 1)
  end
  for i = length, position, -1 do
    list[i + 1] = list[i]
  end
  list[position] = value
end

local function remove(list, position)
  need(type(list) == "table", 1, "remove", "a table", list)
  local length = #list
  if position == nil then
    position = length
  else
    position = whole(position, 2, "remove")
    if position ~= length and (position < 1 or position > length + 1) then
      error("bad argument #2 to 'remove' (position out of bounds)", CALLER - 1)
    end
  end
  local value = list[position]
  for i = position, length - 1 do
    list[i] = list[i + 1]
  end
  if position <= length then
    list[length] = nil
  else
    list[position] = nil
  end
  return value
end

local function move(from, first, last, to, target)
  need(type(from) == "table", 1, "move", "a table", from)
  if target == nil then
    target = from
  end
  need(type(target) == "table", 5, "move", "a table", target)
  first, last, to = whole(first, 2, "move"), whole(last, 3, "move"), whole(to, 4, "move")
  if to > last or to <= first or target ~= from then
    for i = 0, last - first do
      target[to + i] = from[first + i]
    end
  else
    for i = last - first, 0, -1 do
      target[to + i] = from[first + i]
    end
  end
  return target
end

local function concat(list, separator, first, last)
  need(type(list) == "table", 1, "concat", "a table", list)
  if separator == nil then
    separator = ""
  end
  need(is_text(separator), 2, "concat", "a text", separator)
  first = whole(first, 3, "concat", 1)
  if last == nil then
    last = #list
  end
  last = whole(last, 4, "concat")
  local pieces, count = {}, 0
  for i = first, last do
    local piece = list[i]
    if not is_text(piece) then
      error("invalid value (at index " .. i .. ") in table for 'concat'", CALLER - 1)
    end
    count = count + 1
    pieces[count] = piece
  end
  return raw_concat(pieces, separator, 1, count)
end

local function unpack(list, first, last)
  first = whole(first, 2, "unpack", 1)
  if last == nil then
    last = #list
  end
  last = whole(last, 3, "unpack")
  if first > last then
    return
  end
  -- Negative when the difference overflows.
  local count = last - first
  if count < 0 or count >= MOST_RESULTS then
    error("too many results to unpack (at most " .. MOST_RESULTS .. ")", CALLER - 1)
  end
  return raw_unpack(list, first, last)
end

local function ascending(a, b)
  return a < b
end

-- Merges the sorted runs [first, middle) and [middle, stop) of `from` into `to`.
local function merge(from, to, first, middle, stop, less)
  local left, right = first, middle
  for i = first, stop - 1 do
    if left < middle and (right >= stop or not less(from[right], from[left])) then
      to[i] = from[left]
      left = left + 1
    else
      to[i] = from[right]
      right = right + 1
    end
  end
end

local function sort(list, less)
  need(type(list) == "table", 1, "sort", "a table", list)
  need(less == nil or type(less) == "function", 2, "sort", "a function", less)
  local length, from, to, width = #list, {}, {}, 1
  for i = 1, length do
    from[i] = list[i]
  end
  while width < length do
    for first = 1, length, 2 * width do
      local middle = min(first + width, length + 1)
      merge(from, to, first, middle, min(middle + width, length + 1), less or ascending)
    end
    from, to, width = to, from, 2 * width
  end
  for i = 1, length do
    list[i] = from[i]
  end
end

-- string

local CARET = byte("^")

local function gmatch(text, pattern, init)
  need(is_text(text), 1, "gmatch", "a text", text)
  need(is_text(pattern), 2, "gmatch", "a text", pattern)
  text, init = text .. "", whole(init, 3, "gmatch", 1)
  if init < 0 then
    init = #text + init + 1
  end
  if init < 1 then
    init = 1
  end
  local from, last = init - 1, -1
  local function step(start, stop, ...)
    if start == nil then
      -- Behind the end: nothing is found any more.
      from = #text + 1
      return nil
    end
    from, last = stop, stop
    return ...
  end
  return function()
    return step(scan(text, pattern, false, from, last))
  end
end

-- Functions are called from here and not from Rust, so that they can nest as deep as in Lua.
local function replaced(text, pattern, by, most)
  local pieces, count, from, last = {}, 0, 0, -1
  local is_function = type(by) == "function"
  local function step(start, stop, first, ...)
    if start == nil then
      return false
    end
    count = count + 1
    local piece
    if is_function then
      piece = by(first, ...)
    else
      piece = by[first]
    end
    if not piece then
      piece = sub(text, start + 1, stop)
    elseif not is_text(piece) then
      error("invalid replacement value (a " .. type(piece) .. ")", CALLER + 1)
    end
    pieces[#pieces + 1] = sub(text, from + 1, start)
    pieces[#pieces + 1] = piece
    from, last = stop, stop
    return true
  end
  while count < most and step(scan(text, pattern, true, from, last)) do
    if byte(pattern) == CARET then
      break
    end
  end
  pieces[#pieces + 1] = sub(text, from + 1)
  return raw_concat(pieces), count
end

local function gsub(text, pattern, by, most)
  if type(by) ~= "function" and type(by) ~= "table" then
    return native.gsub(text, pattern, by, most)
  end
  need(is_text(text), 1, "gsub", "a text", text)
  need(is_text(pattern), 2, "gsub", "a text", pattern)
  most = whole(most, 4, "gsub", maxinteger)
  local result, count = replaced(text .. "", pattern .. "", by, most)
  return result, count
end

local function only(library, names)
  local chosen = {}
  for i = 1, #names do
    chosen[names[i]] = library[names[i]]
  end
  return chosen
end

local string_library = only(string, { "byte", "char", "format", "len", "lower", "reverse", "sub", "upper" })
string_library.find = native.find
string_library.match = native.match
string_library.gmatch = gmatch
string_library.gsub = gsub
string_library.rep = native.rep

-- ("text"):upper() finds the functions here; scripts cannot get at this table.
local of_texts = getmetatable("")
of_texts.__index = string_library
of_texts.__metatable = false

local math_library = {}
for name, value in next, math do
  math_library[name] = value
end
math_library.random = native.random
math_library.randomseed = nil

-- log

local function at(level)
  return function(...)
    return write(level, ...)
  end
end

local info = at("info")
local callable = {
  __call = function(_, ...)
    return info(...)
  end,
  __metatable = false,
}

-- The globals

local base = only(_G, {
  "_VERSION", "assert", "error", "getmetatable", "ipairs", "next", "pairs", "rawequal", "rawget", "rawlen",
  "rawset", "select", "tonumber", "tostring", "type",
})
base.pcall = protected_call
base.xpcall = protected_call_with_handler
base.setmetatable = native.setmetatable
base.now = native.now
base.now_ms = native.now_ms
base.generate_uuid = native.uuid

local libraries = {
  string = string_library,
  math = math_library,
  utf8 = utf8,
  os = only(os, { "clock", "date", "difftime", "time" }),
  table = { concat = concat, insert = insert, move = move, pack = pack, remove = remove, sort = sort, unpack = unpack },
  string_utils = {
    split = native.split, trim = native.trim, contains = native.contains,
    starts_with = native.starts_with, ends_with = native.ends_with,
    lower = lower, upper = string.upper,
  },
  json = { encode = native.json_encode, decode = native.json_decode, array = native.json_array, null = native.null },
  time = { now = native.now, format = native.time_format, parse = native.time_parse },
  hash = { sha256 = native.sha256, hmac_sha256 = native.hmac_sha256 },
  log = { debug = at("debug"), info = info, warn = at("warn"), error = at("error") },
}

-- Every run gets copies of the libraries it uses, so that what it changes there is gone with it.
local function global(environment, name)
  local value = base[name]
  if value ~= nil then
    return value
  end
  local library = libraries[name]
  if library then
    local copy = {}
    for key, f in next, library do
      copy[key] = f
    end
    if name == "log" then
      lock(copy, callable)
    end
    rawset(environment, name, copy)
    return copy
  end
  if name == "_G" then
    return environment
  end
end

return {
  -- The metatable of every run's globals.
  globals = { __index = global, __metatable = false },
  -- The metatable of headers: old scripts write their names as Go does.
  headers = {
    __index = function(headers, name)
      if type(name) == "string" then
        return rawget(headers, lower(name))
      end
    end,
    __metatable = false,
  },
  -- The metatable of the global `error` of on_error, which hides a function.
  errors = {
    __call = function(_, message, level)
      error(message, (level or 1) + 1)
    end,
    __metatable = false,
  },
}
