"""Two documents, edited apart and joined: no network, no server, nothing but values.

Run it: ``python examples/crdt_offline.py``
"""

from crdt import Change, Document

laptop = Document("laptop")
phone = Document("phone")

# On the laptop, before the journey.
laptop.register("title").set("Groceries")
laptop.set("list").add("bread")
laptop.set("list").add("milk")
laptop.map("notes")["bread"] = "the dark one"
phone.apply(laptop.changes_since(phone.clock))

# Apart: both go on writing.
laptop.set("list").discard("milk")
laptop.counter("visits").increment()
laptop.delete("notes")
with phone.transaction():  # one change: all of it arrives, or nothing
    phone.set("list").add("milk")  # again, so it beats the removal the laptop makes meanwhile
    phone.set("list").add("eggs")
    phone.counter("visits").increment(2)
    phone.map("notes")["eggs"] = "six"

# They meet. Changes are bytes on the way; the order in which they come does not matter.
to_phone = [change.encode() for change in laptop.changes_since(phone.clock)]
to_laptop = [change.encode() for change in phone.changes_since(laptop.clock)]
for event in phone.apply(Change.decode(raw) for raw in reversed(to_phone)):
    print("phone sees", event.key, "=", event.value)
for event in laptop.apply(Change.decode(raw) for raw in to_laptop):
    print("laptop sees", event.key, "=", event.value)

assert laptop.value == phone.value == {
    "list": ["eggs", "milk", "bread"],  # in canonical order: shorter text first
    "notes": {"eggs": "six"},
    "title": "Groceries",
    "visits": 3,
}  # fmt: skip
assert laptop.digest() == phone.digest()
print("they agree:", laptop.value)
