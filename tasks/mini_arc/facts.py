"""The facts behind ``mini_arc``: tables written for this project, one relation each.

A relation has forward questions (entity given, answer asked), backward questions (answer given, entity asked; only
where answers are unique), a difficulty level and its table ``entity = answer``, one fact a line.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Relation:
    """One table of facts; ``{}`` in a question stands for the entity (forward) or the answer (backward)."""

    name: str
    level: int
    forward: tuple[str, ...]
    backward: tuple[str, ...]
    table: str

    def facts(self) -> list[tuple[str, str]]:
        """Entity and answer of every line."""
        pairs = [line.split(" = ") for line in self.table.strip().splitlines()]
        return [(entity.strip(), answer.strip()) for entity, answer in pairs]


RELATIONS = (
    Relation(
        "instruments",
        1,
        ("What does a {} measure?", "A {} is a tool that measures what?"),
        ("Which tool measures {}?", "A student wants to know the {}. Which tool helps?"),
        """
        thermometer = temperature
        ruler = length
        stopwatch = time passed
        kitchen scale = mass
        speedometer = speed of a car
        barometer = air pressure
        rain gauge = amount of rain
        compass = direction of north
        protractor = size of an angle
        wind vane = wind direction
        anemometer = wind speed
        measuring cup = volume of a liquid
        odometer = distance driven
        pedometer = number of steps
        voltmeter = electric voltage
        ammeter = electric current
        light meter = brightness
        seismograph = shaking of the ground
        hygrometer = moisture in the air
        altimeter = height above the sea
        """,
    ),
    Relation(
        "young animals",
        1,
        ("What is a young {} called?", "Which word names the baby of a {}?"),
        ("A {} grows up to be which animal?", "Which animal was once a {}?"),
        """
        dog = puppy
        cat = kitten
        cow = calf
        horse = foal
        sheep = lamb
        goat = kid
        pig = piglet
        chicken = chick
        duck = duckling
        goose = gosling
        frog = tadpole
        deer = fawn
        lion = cub
        kangaroo = joey
        swan = cygnet
        owl = owlet
        eel = elver
        butterfly = caterpillar
        fly = maggot
        hare = leveret
        """,
    ),
    Relation(
        "organs",
        1,
        ("What is the main job of the {}?", "Why does a body need the {}?"),
        ("Which body part serves mainly for {}?",),
        """
        heart = pumping blood
        lungs = breathing in air
        stomach = digesting food
        brain = thinking
        kidneys = cleaning the blood
        eyes = seeing
        ears = hearing
        nose = smelling
        tongue = tasting
        skin = covering the body
        bones = holding the body up
        muscles = moving the bones
        teeth = chewing
        veins = carrying blood back
        nerves = sending signals
        eyelids = shielding the eyes
        ribs = guarding the chest
        vocal cords = making the voice
        sweat glands = cooling the skin
        spine = keeping the back straight
        """,
    ),
    Relation(
        "plant parts",
        1,
        ("What does the {} do for a plant?", "Which task falls to the {} of a plant?"),
        ("Which part of a plant is in charge of {}?",),
        """
        root = taking up water
        leaf = making food from light
        stem = holding the plant upright
        flower = attracting bees
        seed = growing into a new plant
        bark = protecting the trunk
        thorn = keeping animals away
        fruit = wrapping the seeds
        pollen = fertilising other flowers
        bud = opening into a blossom
        tendril = clinging to a support
        bulb = storing food for winter
        """,
    ),
    Relation(
        "homes",
        1,
        ("Where does a {} usually live?", "Which home suits a {}?", "Where would you look for a {}?"),
        (),
        """
        camel = desert
        polar bear = arctic ice
        shark = ocean
        monkey = jungle
        mole = tunnels under ground
        cactus wren = desert
        penguin = antarctic coast
        whale = ocean
        toucan = jungle
        earthworm = tunnels under ground
        sidewinder snake = desert
        walrus = arctic ice
        octopus = ocean
        orangutan = jungle
        badger = tunnels under ground
        trout = cold stream
        beaver = cold stream
        salmon = cold stream
        parrot = jungle
        scorpion = desert
        seal = arctic ice
        coral = ocean
        arctic fox = arctic ice
        otter = cold stream
        water lily = quiet pond
        dragonfly larva = quiet pond
        newt = quiet pond
        bullfrog = quiet pond
        zebra = grassy plain
        giraffe = grassy plain
        bison = grassy plain
        antelope = grassy plain
        """,
    ),
    Relation(
        "animal groups",
        2,
        (
            "To which group of animals does the {} belong?",
            "What kind of animal is the {}?",
            "How is the {} classified?",
        ),
        (),
        """
        bat = mammal
        robin = bird
        salmon = fish
        bee = insect
        lizard = reptile
        toad = amphibian
        dolphin = mammal
        ostrich = bird
        tuna = fish
        beetle = insect
        tortoise = reptile
        salamander = amphibian
        elephant = mammal
        eagle = bird
        goldfish = fish
        ant = insect
        crocodile = reptile
        tree frog = amphibian
        mouse = mammal
        penguin = bird
        carp = fish
        moth = insect
        cobra = reptile
        newt = amphibian
        seal = mammal
        sparrow = bird
        seahorse = fish
        mosquito = insect
        gecko = reptile
        bullfrog = amphibian
        hedgehog = mammal
        flamingo = bird
        herring = fish
        grasshopper = insect
        iguana = reptile
        axolotl = amphibian
        """,
    ),
    Relation(
        "materials",
        1,
        ("What is a {} mostly made of?", "Which material is used for a {}?", "From what do people usually make a {}?"),
        (),
        """
        window pane = glass
        book page = paper
        nail = metal
        sweater = wool
        garden table = wood
        car tyre = rubber
        drinking bottle for milk in the past = glass
        newspaper = paper
        frying pan = metal
        winter sock = wool
        log cabin = wood
        rubber boot = rubber
        magnifying lens = glass
        cardboard box = paper
        bridge cable = metal
        knitted scarf = wool
        rowing boat = wood
        pencil eraser = rubber
        light bulb = glass
        envelope = paper
        door key = metal
        felt hat = wool
        violin = wood
        bouncing ball = rubber
        flower vase = glass
        postage stamp = paper
        coin = metal
        warm blanket = wool
        chopstick = wood
        bicycle inner tube = rubber
        """,
    ),
    Relation(
        "states of matter",
        2,
        ("In which state of matter is {} at room temperature?", "At room temperature, what is {}?"),
        (),
        """
        oxygen = a gas
        milk = a liquid
        iron = a solid
        helium = a gas
        vinegar = a liquid
        salt = a solid
        nitrogen = a gas
        olive oil = a liquid
        granite = a solid
        carbon dioxide = a gas
        lemon juice = a liquid
        copper = a solid
        hydrogen = a gas
        alcohol = a liquid
        sugar = a solid
        neon = a gas
        mercury = a liquid
        chalk = a solid
        """,
    ),
    Relation(
        "changes of state",
        2,
        ("What happens when {}?", "Which change takes place when {}?"),
        (),
        """
        ice turns into water = melting
        water turns into ice = freezing
        water turns into vapour = evaporation
        vapour turns into drops = condensation
        butter becomes soft in a pan = melting
        a lake gets hard in winter = freezing
        a puddle dries in the sun = evaporation
        dew forms on grass = condensation
        a candle drips = melting
        juice becomes a popsicle = freezing
        wet clothes dry on a line = evaporation
        a cold glass gets wet outside = condensation
        chocolate runs in a warm hand = melting
        rain on the road becomes slippery ice = freezing
        a bowl of water slowly empties = evaporation
        steam fogs a mirror = condensation
        """,
    ),
    Relation(
        "sky",
        2,
        ("Which description fits {}?", "What is {}?"),
        ("What do we call {}?",),
        """
        the Sun = the star at the centre of our planets
        the Moon = the rocky body that circles the Earth
        Mercury = the planet nearest to the Sun
        Jupiter = the largest planet
        Saturn = the planet famous for wide rings
        Mars = the red planet
        Neptune = the planet farthest from the Sun
        a comet = an icy body with a bright tail
        a meteor = a streak of light from a falling rock
        a galaxy = a huge family of stars
        an eclipse = a shadow of one body falling on another
        an orbit = the path of one body around another
        an asteroid = a rock that circles the Sun
        a constellation = a pattern of stars seen from Earth
        a satellite = anything that circles a planet
        gravity = the pull between two masses
        """,
    ),
    Relation(
        "energy",
        2,
        ("Into what does a {} mainly turn electricity?", "A working {} gives off mostly what?"),
        (),
        """
        toaster = heat
        desk lamp = light
        loudspeaker = sound
        ceiling fan = motion
        hair dryer = heat
        torch = light
        doorbell = sound
        washing machine drum = motion
        kettle = heat
        traffic signal = light
        radio = sound
        electric drill = motion
        oven = heat
        television screen = light
        alarm buzzer = sound
        electric train engine = motion
        """,
    ),
    Relation(
        "eating",
        1,
        ("What does a {} mostly eat?", "Which food does a {} look for?"),
        (),
        """
        cow = grass
        lion = meat
        honeybee = nectar
        squirrel = nuts
        panda = bamboo
        koala = eucalyptus leaves
        heron = fish
        sheep = grass
        wolf = meat
        hummingbird = nectar
        chipmunk = nuts
        pelican = fish
        horse = grass
        tiger = meat
        butterfly = nectar
        jay = nuts
        otter = fish
        silkworm = mulberry leaves
        anteater = ants
        aardvark = ants
        spider = insects
        swallow = insects
        chameleon = insects
        pangolin = ants
        """,
    ),
    Relation(
        "resources",
        2,
        ("Is {} a resource that comes back, and if so, how?", "What is true of {} as a source of energy?"),
        (),
        """
        coal = it runs out some day
        wind = it never runs out
        crude oil = it runs out some day
        sunlight = it never runs out
        natural gas = it runs out some day
        the tides = it never runs out
        wood = it grows again slowly
        maize fuel = it grows again slowly
        straw = it grows again slowly
        uranium ore = it must be mined and is radioactive
        plutonium = it must be mined and is radioactive
        """,
    ),
    Relation(
        "weather",
        1,
        ("What is {}?", "Which words describe {}?"),
        ("Which kind of weather is {}?", "What name is given to {}?"),
        """
        hail = balls of ice from the sky
        fog = a cloud near the ground
        lightning = a flash of electricity
        thunder = a loud rumble after a flash
        snow = soft white flakes
        a drought = a long time without rain
        a flood = water over dry land
        a tornado = a spinning funnel of wind
        a breeze = a light wind
        a blizzard = a snowstorm with strong wind
        frost = thin ice on the grass at dawn
        drizzle = very fine rain
        a heat wave = many very hot days
        a rainbow = an arc of colours
        """,
    ),
    Relation(
        "numbers of parts",
        1,
        ("How many {} are there?", "What is the number of {}?", "Count them: how many {}?"),
        (),
        """
        legs on a spider = eight
        legs on an ant = six
        legs on a horse = four
        legs on a bird = two
        arms on an octopus = eight
        legs on a beetle = six
        wheels on a tricycle = three
        days in a week = seven
        months in a year = twelve
        sides of a triangle = three
        sides of a hexagon = six
        fingers on one hand = five
        colours in a rainbow = seven
        seasons in a year = four
        planets around the Sun = eight
        continents on Earth = seven
        wings on a bird = two
        hours on a clock face = twelve
        toes on one foot = five
        corners of a square = four
        points on a compass rose named by one letter = four
        corners of a pentagon = five
        wheels on a bicycle = two
        leaves on a common clover = three
        """,
    ),
    Relation(
        "jobs",
        1,
        ("What does a {} study?", "A {} spends the day learning about what?"),
        ("Which scientist studies {}?", "Who knows most about {}?"),
        """
        botanist = plants
        zoologist = animals
        geologist = rocks
        astronomer = stars and planets
        meteorologist = weather
        chemist = how substances react
        physicist = forces and energy
        ecologist = living things in their surroundings
        paleontologist = fossils
        oceanographer = the sea
        entomologist = insects
        ornithologist = birds
        volcanologist = volcanoes
        geneticist = inherited traits
        microbiologist = germs
        archaeologist = remains of old cultures
        """,
    ),
    Relation(
        "forces",
        2,
        ("Which force makes {}?", "What is the cause when {}? Choose the force."),
        (),
        """
        an apple drops from a tree = gravity
        a sled slows down on gravel = friction
        a pin jumps to a bar of iron = magnetism
        a parachute falls slowly = air resistance
        a ball rolls downhill = gravity
        shoes grip the floor = friction
        a note stays on the fridge door = magnetism
        a feather drifts down = air resistance
        rain falls = gravity
        brakes stop a bicycle = friction
        a compass needle turns = magnetism
        a cyclist feels a push from the front = air resistance
        a thrown stone comes down = gravity
        hands warm up when rubbed = friction
        a crane lifts scrap iron without a hook = magnetism
        a paper plane slows in flight = air resistance
        """,
    ),
    Relation(
        "adaptations",
        2,
        ("How do {} help an animal?", "What are {} good for?"),
        ("Which feature helps an animal with {}?",),
        """
        webbed feet = swimming
        sharp claws = gripping prey
        thick fur = staying warm
        long necks = reaching high leaves
        hollow bones = flying
        gills = breathing under water
        spots and stripes = hiding
        big ears = hearing danger
        strong beaks = cracking seeds
        quills = keeping enemies off
        sticky tongues = catching flies
        humps = storing fat
        whiskers = feeling the way in the dark
        flat teeth = grinding grass
        hooves = running on hard ground
        shells = hiding inside
        """,
    ),
    Relation(
        "safety",
        1,
        ("In a science class, why wear or use {}?", "What is the point of {} in a laboratory?"),
        ("In a laboratory, what serves for {}?",),
        """
        goggles = protecting the eyes
        gloves = protecting the hands
        an apron = keeping clothes clean
        a fire extinguisher = putting out flames
        tongs = holding hot things
        a fume hood = drawing off bad air
        a face mask = not breathing dust
        ear plugs = blocking loud noise
        a first aid kit = treating small cuts
        a hair tie = keeping hair out of flames
        """,
    ),
    Relation(
        "rocks and land",
        2,
        ("How does {} form?", "What makes {}?"),
        ("What forms from {}?",),
        """
        a volcano = melted rock breaking through
        a canyon = a river cutting into stone
        sand = rocks worn to tiny grains
        a fossil = a dead creature buried in mud
        a glacier = snow packed for many years
        a delta = mud dropped at a river mouth
        a dune = sand heaped up by wind
        coal = swamp plants pressed for ages
        a cave = water dissolving limestone
        a mountain range = plates pushing together
        an island of ash = an eruption under the sea
        soil = broken rock mixed with dead leaves
        """,
    ),
)
