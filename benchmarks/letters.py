"""Generated letters: English sentences with names, dates and amounts. Each number gives a different letter."""

import random

_SENTENCES = (
    "Thank you for your letter of {date}, which reached us only after the holidays.",
    "The heating in the rear building has failed again, and {name} has asked the plumber to come before the weekend.",
    "According to the contract of {date}, the rent of {amount} is due on the first working day of every month.",
    "We have looked through the invoices of the past two years and found that {amount} was charged twice.",
    "{name} told us by telephone that the new meters will be installed in the second week of the month.",
    "Please send the signed form to our office in {place}, together with a copy of the insurance policy.",
    "The caretaker keeps the keys of the cellar, the attic and the bicycle shed, and hands them out against a receipt.",
    "At the meeting in {place} it was agreed that the repairs to the roof would be postponed until the spring.",
    "The surveyor estimates the cost at {amount}, of which the insurance company is expected to pay about a third.",
    "Should you wish to object, you can do so in writing within four weeks of receiving this letter.",
    "Since {date} the account has shown a balance of {amount}, and no reminder has been answered so far.",
    "{name} will be your contact from now on, because the colleague you have been writing to has retired.",
    "The parcel was handed over to the carrier in {place} and has not been seen since.",
    "We would be grateful if you could confirm the appointment, so that the room can be reserved in good time.",
    "The committee thanks {name} for many years of careful work on the accounts and the members' register.",
    "Enclosed you will find the statement of the operating costs, the calculation of your share and a transfer form.",
    "A deposit of {amount} was paid when the flat was handed over, and it carries interest at the usual rate.",
    "The neighbours have complained about the noise of the building works, which begin long before seven in the morning.",
    "If the delivery does not arrive by {date}, we shall cancel the order and ask for the price to be refunded.",
    "In our view the damage was there before the tenant moved in, as the photographs of that time show quite clearly.",
)
_NAMES = ("Ruth Aldersey", "Orla Fenwick", "Tomas Brandt", "Mrs Okafor", "Ingrid Solheim", "Daniel Marchetti")
_PLACES = ("Leeds", "Elder Lane", "Harbour Street", "Norwich", "Mill Road", "Aberdeen")
_MONTHS = ("January", "March", "April", "June", "September", "November")
_SENTENCES_A_PARAGRAPH = 6


def letter(number: int, characters: int) -> str:
    """A letter of whole sentences with at least `characters` characters. The same number gives the same letter."""
    chosen = random.Random(number)  # noqa: S311
    sentences: list[str] = []
    length = 0
    while length < characters:
        sentence = chosen.choice(_SENTENCES).format(
            name=chosen.choice(_NAMES),
            place=chosen.choice(_PLACES),
            date=f"{chosen.randint(1, 28)} {chosen.choice(_MONTHS)} {chosen.randint(2015, 2024)}",
            amount=f"{chosen.randint(40, 4_000)}.{chosen.randint(0, 99):02} euros",
        )
        sentences.append(sentence)
        length += len(sentence) + 1
    starts = range(0, len(sentences), _SENTENCES_A_PARAGRAPH)
    return "\n\n".join(" ".join(sentences[start : start + _SENTENCES_A_PARAGRAPH]) for start in starts)
