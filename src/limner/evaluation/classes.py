"""The things that the evaluation asks for: eighty of them, as GenEval has eighty of COCO.

Each is in the painter's bank and in at least three emoji sets that the painter does not draw with, looks unlike the
others at 256 pixels, and is nothing that a place draws by itself (no trees, houses, boats, mushrooms, books, lamps).
"""

from __future__ import annotations

from dataclasses import dataclass

from limner.painter.scene import Colour


@dataclass(frozen=True, slots=True)
class Class:
    """One kind of thing that the detector knows."""

    concept: str  # its name in the bank, and in most emoji sets
    noun: str  # what prompts call it
    plural: str
    code: str  # Unicode code point, lower-case hexadecimal
    coloured: bool  # whether prompts may ask for it in a colour: one that people make or that is nearly all one colour


def _table(text: str) -> tuple[Class, ...]:
    rows = (line.split() for line in text.strip().splitlines())
    return tuple(
        Class(concept, noun.replace("_", " "), plural.replace("_", " "), code, mark == "c")
        for concept, noun, plural, code, mark in rows
    )


CLASSES = _table("""
cat           cat            cats             1f408  c
dog           dog            dogs             1f415  c
rabbit        rabbit         rabbits          1f407  c
duck          duck           ducks            1f986  -
rooster       rooster        roosters         1f413  -
turtle        turtle         turtles          1f422  c
snake         snake          snakes           1f40d  c
frog          frog           frogs            1f438  c
horse         horse          horses           1f40e  c
cow           cow            cows             1f404  -
pig           pig            pigs             1f416  c
ewe           sheep          sheep            1f411  -
elephant      elephant       elephants        1f418  c
giraffe       giraffe        giraffes         1f992  -
zebra         zebra          zebras           1f993  -
tiger         tiger          tigers           1f405  -
parrot        parrot         parrots          1f99c  -
panda         panda          pandas           1f43c  -
penguin       penguin        penguins         1f427  -
owl           owl            owls             1f989  -
flamingo      flamingo       flamingos        1f9a9  -
octopus       octopus        octopuses        1f419  c
crab          crab           crabs            1f980  c
butterfly     butterfly      butterflies      1f98b  -
snail         snail          snails           1f40c  -
camel         camel          camels           1f42a  c
kangaroo      kangaroo       kangaroos        1f998  c
bicycle       bicycle        bicycles         1f6b2  -
motorcycle    motorcycle     motorcycles      1f3cd  -
automobile    car            cars             1f697  c
bus           bus            buses            1f68c  c
delivery-truck delivery_truck delivery_trucks 1f69a  -
tractor       tractor        tractors         1f69c  c
airplane      airplane       airplanes        2708   -
helicopter    helicopter     helicopters      1f681  c
rocket        rocket         rockets          1f680  -
locomotive    locomotive     locomotives      1f682  -
skateboard    skateboard     skateboards      1f6f9  -
balloon       balloon        balloons         1f388  c
umbrella      umbrella       umbrellas        2602   c
backpack      backpack       backpacks        1f392  c
handbag       handbag        handbags         1f45c  c
luggage       suitcase       suitcases        1f9f3  c
crown         crown          crowns           1f451  -
top-hat       top_hat        top_hats         1f3a9  -
t-shirt       t-shirt        t-shirts         1f455  c
jeans         pair_of_jeans  pairs_of_jeans   1f456  -
glasses       pair_of_glasses pairs_of_glasses 1f453 -
running-shoe  sneaker        sneakers         1f45f  -
soccer-ball   soccer_ball    soccer_balls     26bd   -
basketball    basketball     basketballs      1f3c0  -
guitar        guitar         guitars          1f3b8  c
trumpet       trumpet        trumpets         1f3ba  -
drum          drum           drums            1f941  -
laptop        laptop         laptops          1f4bb  -
television    television     televisions      1f4fa  -
mobile-phone  mobile_phone   mobile_phones    1f4f1  -
camera        camera         cameras          1f4f7  -
alarm-clock   alarm_clock    alarm_clocks     23f0   -
scissors      pair_of_scissors pairs_of_scissors 2702 -
key           key            keys             1f511  c
hammer        hammer         hammers          1f528  -
teddy-bear    teddy_bear     teddy_bears      1f9f8  c
toothbrush    toothbrush     toothbrushes     1faa5  -
toilet        toilet         toilets          1f6bd  -
bed           bed            beds             1f6cf  -
chair         chair          chairs           1fa91  c
wine-glass    wine_glass     wine_glasses     1f377  -
teapot        teapot         teapots          1fad6  c
banana        banana         bananas          1f34c  -
red-apple     apple          apples           1f34e  c
strawberry    strawberry     strawberries     1f353  -
grapes        bunch_of_grapes bunches_of_grapes 1f347 -
pineapple     pineapple      pineapples       1f34d  -
watermelon    watermelon     watermelons      1f349  -
broccoli      broccoli       broccolis        1f966  -
carrot        carrot         carrots          1f955  -
hamburger     hamburger      hamburgers       1f354  -
pizza         pizza          pizzas           1f355  -
doughnut      donut          donuts           1f369  -
""")
NAMES = tuple(one.concept for one in CLASSES)
BY_CONCEPT = {one.concept: one for one in CLASSES}

COLOURS: tuple[Colour, ...] = (
    "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "grey",
)  # fmt: skip
"""What the detector can call a thing's colour. GenEval's eleven but for grey; grey is told, and not asked for."""
